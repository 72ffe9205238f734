"""Chinese headers, values and file names of the simulated export, as Chinese systems write them."""

from __future__ import annotations

from collections.abc import Mapping

FILES_ZH: Mapping[str, str] = {
    "clinics": "诊所",
    "clinicians": "医生",
    "patients": "患者",
    "contact_details": "联系方式",
    "appointments": "预约",
    "plan_items": "治疗计划",
    "communications": "沟通记录",
    "recalls": "复诊提醒",
    "payments": "收费",
    "campaign_arms": "回访分组",
    "closures": "停诊",
    "capacity": "椅位",
    "chart_notes": "病历",
    "supplies": "库存",
    "supply_use": "耗材用量",
    "ledger": "月度账目",
}

_HEADERS = """
clinic_id 诊所编号|clinic_name 诊所名称|region 区域|opened_on 开业日期|known_from_at 登记时间
clinician_id 接诊医生|display_name 医生姓名|role 岗位|works_from_on 入职日期|left_on 离职日期
left_known_at 离职登记时间|patient_id 病历号|home_clinic_id 所属诊所|referred_by_id 介绍人
household_id 家庭编号|sex 性别|source_channel 患者来源|membership 会员类型|tags 标签|departure 离开原因
birth_year 出生年份|is_contact_allowed 允许回访|is_wechat_allowed 允许微信|is_sms_allowed 允许短信
is_phone_allowed 允许电话|is_email_allowed 允许邮件|is_profiling_allowed 允许画像|first_seen_on 初诊日期
departed_on 离开日期|full_name 姓名|phone 手机号|email 邮箱|appointment_id 预约编号|service_line 项目
status 状态|recall_type 复诊类型|duration_minutes 时长分钟|fee_cents 金额分|is_start_time_known 有时间
is_requested_clinician 指定医生|booked_at 登记预约时间|starts_at 预约时间|status_known_at 状态时间
plan_item_id 计划项目编号|plan_id 计划编号|procedure_code 项目编码|urgency 紧急程度|proposed_at 提出时间
accepted_at 接受时间|scheduled_at 安排时间|completed_at 完成时间|declined_at 放弃时间
communication_id 沟通编号|campaign_id 活动编号|direction 方向|channel 渠道|purpose 目的|outcome 结果
sent_at 发送时间|delivered_at 送达时间|replied_at 回复时间|recall_id 提醒编号|disabled_reason 停用原因
interval_days 间隔天数|is_disabled 停用|due_on 应复诊日期|disabled_until_on 停用至|payment_id 收费编号
kind 类别|method 支付方式|list_cents 应收分|discount_cents 优惠分|amount_cents 实收分|paid_at 收费时间
arm_id 分组编号|arm 分组|propensity 概率|assigned_at 分组时间|closure_id 停诊编号|reason 原因
closed_on 停诊日期|capacity_id 椅位编号|weekday 星期|chairs 椅位数|chair_hours 椅位小时|valid_from_on 生效日期
chart_note_id 病历编号|review_state 病历状态|visited_at 就诊时间|reviewed_at 质控时间|supply_id 物品编号
supply_name 物品|unit 单位|unit_cost_cents 单价分|stock_quantity 库存数量|reorder_quantity 预警值
cancellation_reason 取消原因
counted_at 盘点时间|supply_use_id 用量编号|quantity 数量|ledger_id 账目编号|account 科目|month_on 月份
"""

_PAIRS = [pair.split() for pair in _HEADERS.replace("\n", "|").split("|") if pair]
HEADERS_ZH: Mapping[str, str] = {pair[0]: pair[1] for pair in _PAIRS}

VALUES_ZH: Mapping[str, Mapping[str, str]] = {
    "sex": {"female": "女", "male": "男"},
    "role": {"dentist": "医生", "hygienist": "洁牙师"},
    "departure": {"deceased": "去世", "moved": "搬离"},
    "status": {
        "booked": "已预约",
        "arrived": "已到店",
        "completed": "已完成",
        "no_show": "爽约",
        "cancelled_late": "临时取消",
        "cancelled_early": "提前取消",
        "rescheduled": "改约",
    },
    "urgency": {"routine": "常规", "soon": "尽快", "urgent": "紧急"},
    "direction": {"out": "呼出", "in": "呼入"},
    "channel": {"wechat": "微信", "sms": "短信", "phone": "电话"},
    "purpose": {"reminder": "预约提醒", "recall": "复诊回访"},
    "outcome": {"confirmed": "已确认", "declined": "拒绝", "no_answer": "未接", "opted_out": "退订"},
    "kind": {"charge": "收费单", "payment": "付款", "refund": "退款"},
    "review_state": {
        "unwritten": "未写",
        "written": "已写",
        "ignored": "已忽略",
        "to_correct": "待整改",
        "corrected": "已整改",
    },
}
