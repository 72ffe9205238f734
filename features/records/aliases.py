"""What exports call things: names of columns and words for their values, in English and Chinese."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping


def _listed(text: str) -> dict[str, tuple[str, ...]]:
    """Lines ``key: word word ...``; indented ones go on."""
    lines = text.replace("\n    ", " ").strip().splitlines()
    return {key: tuple(words.split()) for key, _, words in (line.partition(":") for line in lines)}


# Role -> names, the surest first. A role is a column of the contract, or what `suggest` makes one of.
COLUMNS: Mapping[str, tuple[str, ...]] = _listed("""
patient_id: 病历号 病案号 患者编号 患者id 客户编号 会员号 就诊卡号 patient_id patient_number patient_no
    patnum patient_code chart_number mrn customer_id client_id member_id patient
    customer 病人 患者 id
appointment_id: 预约号 预约编号 预约单号 预约id 挂号单号 appointment_id appointment_number
    appointment_no aptnum appt_id booking_id booking_number visit_id
clinic_id: 诊所编号 门诊编号 门诊 诊所 门店 院区 分院 就诊机构 机构 clinic_id clinic clinic_name branch practice
    location site office facility neighbourhood neighborhood 创建机构
clinician_id: 接诊医生 预约医生 就诊医生 主治医生 医生 责任医生 clinician_id provider_id provider dentist
    doctor clinician practitioner hygienist prov
service_line: 预约项目 治疗项目 就诊项目 项目 诊疗类型 service_line service procedure treatment
    treatment_type appointment_type 专业方向 科室
status: 就诊状态 预约状态 到诊状态 状态 appointment_status apt_status booking_status status outcome
    visit_status
no_show: no_show noshow is_no_show missed 是否爽约 爽约 未到诊
attended: attended showed showed_up is_attended arrived 是否到诊 是否到店 是否就诊 到诊
booked: 预约创建时间 预约登记时间 登记预约时间 下单时间 创建时间 登记时间 录入时间 booked_at booking_date booked_on
    booking_time scheduled_day created_at created date_created sec_datetime_entry
    creation_date
starts: 预约开始时间 预约就诊时间 开始时间 就诊时间 预约到诊时间 starts_at start_time appointment_date
    appointment_day appointment_time appointment_datetime apt_datetime appt_date start
    start_date
either: 预约时间 预约日期 reservation_date
visited: 就诊日期 到诊日期 接诊时间 到诊时间 日期 visit_date date_of_visit date_of_service service_date
    date
status_known_at: 状态更新时间 状态变更时间 状态时间 取消时间 更新时间 status_changed_at updated_at last_modified
duration_minutes: 预约时长 时长 预约时长分钟 时长分钟 duration_minutes duration length minutes
amount: 实收 实收金额 实付 实付金额 营业收入 订单折后价 金额 收费 amount_paid paid_amount amount fee total
    price dollar_value revenue
full_name: 姓名 患者姓名 客户姓名 patient_name full_name name customer_name
phone: 手机 手机号 手机号码 电话 联系电话 移动电话 phone mobile cell phone_number mobile_phone telephone
email: 邮箱 电子邮箱 email e_mail email_address
sex: 性别 sex gender patient_sex
birthday: 生日 出生日期 出生年月 出生年月日 date_of_birth dob birth_date birthdate birthday
birth_year: 出生年份 出生年 birth_year year_of_birth yob
age: 年龄 就诊年龄 age patient_age
source_channel: 患者来源 一级来源 客户来源 来源 source_channel source referral_source patient_source
    channel
referred_by_id: 介绍人 推荐人 邀请人 referred_by referrer referred_by_id
membership: 会员 会员等级 会员类型 会员卡 membership membership_plan member_level plan
tags: 标签 患者标签 客户标签 tags labels
first_seen_on: 初诊时间 初诊日期 首诊日期 建档日期 first_visit first_visit_date first_seen
    date_first_visit
receipt: 单号 订单号 收费单号 账单号 receipt invoice invoice_number bill_number order_id
entry_kind: 业务类型 交易类型 收费类型 transaction_type entry_type
""")
WEAK = {
    "clinic_id": {"neighbourhood", "neighborhood", "创建机构", "location", "site"},
    "service_line": {"科室", "专业方向"},
    "clinician_id": {"责任医生"},
    "amount": {"total", "price", "营业收入", "订单折后价", "revenue"},
    "visited": {"接诊时间"},
}
PERSONAL = ("full_name", "phone", "email", "referred_by_id")
FREE_TEXT = ("备注", "主诉", "医嘱", "诊断", "notes", "note", "remarks", "comment", "comments")

SEXES: Mapping[str, tuple[str, ...]] = {
    "female": ("女", "女性", "f", "female", "w", "woman"),
    "male": ("男", "男性", "m", "male", "man"),
    "other": ("其他", "other", "o", "x"),
    "unknown": ("未知", "不详", "保密", "unknown", "u", "na"),
}
CODED_SEXES: Mapping[str, tuple[str, ...]] = {"male": ("1",), "female": ("2",), "unknown": ("0", "9")}  # GB/T 2261.1
STATUSES: Mapping[str, tuple[str, ...]] = _listed("""
booked: 预约 已预约 待确认 未确认 已确认 待就诊 待到诊 booked scheduled confirmed unconfirmed pending open
    reserved 未到期
arrived: 签到 已签到 已到店 候诊 就诊中 治疗中 arrived checkedin intreatment inprogress seated treatment
completed: 已到 到诊 已到诊 已就诊 已完成 完成 就诊完成 治疗完成 已结账 已结算 已离开 completed complete attended show
    showed finished fulfilled checkedout done
no_show: 爽约 已爽约 失约 未到 未到诊 未赴约 noshow missed dna didnotattend failed
cancelled_late: 当日取消 临时取消 latecancel latecancelled latecanceled cancelledlate
    shortnotice
cancelled_early: 取消 已取消 预约取消 cancelled canceled cancel cancelledearly 提前取消 已作废
rescheduled: 改约 已改约 改期 已改期 rescheduled postponed moved
""")
YES, NO = ("yes", "y", "true", "t", "1", "是", "有"), ("no", "n", "false", "f", "0", "否", "无", "没有")
NOT_VISITS = ("充值", "还欠款", "退款", "退费", "预存", "预交金", "topup", "refund", "deposit")


def plain(name: str) -> str:
    """A name or word without case, width, blanks and punctuation, for comparison."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return "".join(character for character in folded if character.isalnum())


def roles_of(header: str) -> list[str]:
    """Roles that a column of this name may have."""
    return [role for role, names in _PLAIN.items() if plain(header) in names]


def is_weak(role: str, header: str) -> bool:
    """Whether the name only hints at the role."""
    return plain(header) in {plain(name) for name in WEAK.get(role, ())}


def rank(role: str, header: str) -> int:
    """How far down the role's list the name stands."""
    return _PLAIN[role].index(plain(header))


def translation(words: Mapping[str, tuple[str, ...]], found: list[str]) -> dict[str, str]:
    """The words among `found` that are known, each as written, with what they mean."""
    meant = {plain(word): meaning for meaning, known in words.items() for word in (*known, meaning)}
    return {word: meant[plain(word)] for word in found if plain(word) in meant}


_PLAIN = {role: [plain(name) for name in names] for role, names in COLUMNS.items()}
