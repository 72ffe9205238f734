"""The two learners of the blend, built from what the features say about themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    PolynomialFeatures,
    SplineTransformer,
    StandardScaler,
)

from features.spec import Feature
from training.metrics import Floats

KNOTS, COARSE_KNOTS = 5, 4
LOGISTIC_PENALTY = 0.003  # scikit-learn's C: smaller is stronger
RULE_PENALTY = 1.0  # of a rule on one number, which needs none
# What a product adds to a score is counted to its first: the one that is never shown as a reason, if either is.
PRODUCTS = (
    ("days_until_visit", "is_reminder_outage"),
    ("years_since_birth", "days_until_visit"),
    ("years_since_birth", "days_since_booking"),
    ("years_since_birth", "is_female"),
    ("booking_hour", "is_booked_same_day"),
    ("years_since_birth", "is_booked_same_day"),
    ("visits_missed_excess_mean_ever", "is_booked_same_day"),
    ("bookings_simultaneous_count_1d", "is_booked_same_day"),
    ("companions_minute_count_1d", "is_booked_same_day"),
    ("days_since_booking", "reminders_sent_count_ever"),
    ("years_since_birth", "reminders_sent_count_ever"),
    ("years_since_birth", "has_tag_hypertension"),
    ("years_since_birth", "has_tag_diabetes"),
)

BOOSTER = {
    "objective": "binary",
    "learning_rate": 0.03,
    "num_leaves": 8,
    "min_data_in_leaf": 150,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.5,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "max_bin": 127,
    "monotone_constraints_method": "intermediate",
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,  # a second one costs more than it brings on small data, and spins on a busy machine
    "verbosity": -1,
}
BOOSTER_ROUNDS = 300
FEWEST_FOR_BOOSTER = 1500  # labelled examples; below, splines alone did better on every real set tried


def spline_logistic(features: Sequence[Feature], penalty: float = LOGISTIC_PENALTY) -> Pipeline:
    """Logistic regression on splines of days, hours and ages, with a few products of them.

    Counts are taken as log(1 + x), flags and log ratios as they are, weekdays
    one by one. How the risk runs with age differs by sex and by how far ahead
    the booking was made, and the hour of booking means something else for
    same-day visits: these products are in, and no others.

    Parameters
    ----------
    features : sequence of Feature
        Of a contract, in its order.
    penalty : float
        scikit-learn's C.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Column names of its inner steps start with the feature's name and two
        underscores, so that contributions can be traced back.
    """
    regression = LogisticRegression(C=penalty, max_iter=500)
    return Pipeline([*spline_columns(features).steps, ("regression", regression)])


def spline_columns(features: Sequence[Feature]) -> Pipeline:
    """The columns of `spline_logistic`, scaled."""
    by_name = {feature.name: feature for feature in features}
    parts = [(feature.name, _treatment(feature), [feature.name]) for feature in features]
    for first, second in PRODUCTS:
        if first in by_name and second in by_name:
            pair = ColumnTransformer([(n, _treatment(by_name[n], COARSE_KNOTS), [n]) for n in (first, second)])
            products = PolynomialFeatures(degree=2, interaction_only=True, include_bias=False)
            parts.append((f"{first}*{second}", make_pipeline(pair, products), [first, second]))
    columns = ColumnTransformer(parts, verbose_feature_names_out=True, sparse_threshold=0)
    return Pipeline([("columns", columns), ("scale", StandardScaler())])


def fit_booster(
    frame: pd.DataFrame, label: Floats, features: Sequence[Feature], seed: int, risk: int = 1
) -> lightgbm.Booster:
    """Fit LightGBM with the signs that the features declare.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per example, the features' columns in their order.
    label : ndarray of shape (n_examples,)
    features : sequence of Feature
    seed : int
        For the sampling of rows and columns.
    risk : int
        1 if a label of 1 is what one fears, -1 if it is what one hopes for.

    Returns
    -------
    lightgbm.Booster
    """
    parameters = BOOSTER | {"seed": seed, "monotone_constraints": [risk * feature.monotone for feature in features]}
    names = [feature.name for feature in features]
    return lightgbm.train(parameters, lightgbm.Dataset(frame[names], label), BOOSTER_ROUNDS)


def _treatment(feature: Feature, knots: int = KNOTS) -> BaseEstimator:
    """How a feature enters the regression, by its unit.

    What may be negative (days past a due date, ratios, sums owed) is taken as asinh: log(2 x) where x is large.
    """
    if feature.unit == "weekday":
        every = [np.arange(7.0)]  # a make-up workday may be the first Sunday that is seen
        return OneHotEncoder(categories=every, drop="first", handle_unknown="ignore", sparse_output=False)
    filled = SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True)
    if feature.unit in ("flag", "log ratio", "share"):
        return filled
    is_signed = feature.unit in ("ratio", "cents") or feature.name.startswith("days_since_due")
    steps = [_elementwise(np.arcsinh)] if is_signed else [_elementwise(np.clip, min=0), _elementwise(np.log1p)]
    logarithm = make_pipeline(*steps)
    if feature.unit not in ("days", "hour", "years"):
        return make_pipeline(filled, logarithm)
    spline = SplineTransformer(
        n_knots=knots,
        knots="uniform",
        include_bias=False,
        extrapolation="constant",
        handle_missing="zeros",
    )
    return make_pipeline(logarithm, spline) if feature.unit == "days" else spline


def _elementwise(function: Callable[..., Any], **given: float) -> FunctionTransformer:
    """A step of NumPy's own functions alone: it is stored by name, and loads where `training` is not installed."""
    return FunctionTransformer(function, kw_args=given or None, feature_names_out="one-to-one")
