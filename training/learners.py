"""The two learners of the blend, built from what the features say about themselves."""

from __future__ import annotations

from collections.abc import Sequence

import lightgbm
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, SplineTransformer, StandardScaler

from features.spec import Feature
from training.metrics import Floats

SPLINE_KNOTS = 6
LOGISTIC_PENALTY = 0.02  # scikit-learn's C: smaller is stronger

BOOSTER = {
    "objective": "binary",
    "learning_rate": 0.04,
    "num_leaves": 12,
    "min_data_in_leaf": 120,
    "feature_fraction": 0.6,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "max_bin": 127,
    "monotone_constraints_method": "intermediate",
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 2,
    "verbosity": -1,
}
BOOSTER_ROUNDS = 220
FEWEST_FOR_BOOSTER = 1500  # labelled examples; below, splines alone did better on every real set tried


def spline_logistic(features: Sequence[Feature]) -> Pipeline:
    """Logistic regression on splines of every feature.

    Counts and days are taken as log(1 + x); flags as they are; weekdays one
    by one; what can be missing gets a column that says so.

    Parameters
    ----------
    features : sequence of Feature
        Of a contract, in its order.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Column names of its inner steps start with the feature's name and two
        underscores, so that contributions can be traced back.
    """
    columns = ColumnTransformer(
        [(feature.name, _treatment(feature), [feature.name]) for feature in features],
        verbose_feature_names_out=True,
        sparse_threshold=0,
    )
    return Pipeline(
        [
            ("columns", columns),
            ("scale", StandardScaler()),
            ("regression", LogisticRegression(C=LOGISTIC_PENALTY, max_iter=500)),
        ]
    )


def fit_booster(frame: pd.DataFrame, label: Floats, features: Sequence[Feature], seed: int) -> lightgbm.Booster:
    """Fit LightGBM with the signs that the features declare.

    Parameters
    ----------
    frame : pandas.DataFrame
        One row per example, the features' columns in their order.
    label : ndarray of shape (n_examples,)
    features : sequence of Feature
    seed : int
        For the sampling of rows and columns.

    Returns
    -------
    lightgbm.Booster
    """
    parameters = BOOSTER | {"seed": seed, "monotone_constraints": [feature.monotone for feature in features]}
    names = [feature.name for feature in features]
    return lightgbm.train(parameters, lightgbm.Dataset(frame[names], label), BOOSTER_ROUNDS)


def _treatment(feature: Feature) -> Pipeline | OneHotEncoder | SimpleImputer:
    if feature.unit == "flag":
        return SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True)
    if feature.unit == "weekday":
        return OneHotEncoder(drop="first", handle_unknown="ignore", sparse_output=False)
    filled = SimpleImputer(strategy="constant", fill_value=0.0, keep_empty_features=True)
    spline = SplineTransformer(n_knots=SPLINE_KNOTS, degree=3, include_bias=False, extrapolation="constant")
    if feature.unit in ("share", "hour", "years"):
        curve = make_pipeline(filled, spline)
    else:
        curve = make_pipeline(filled, FunctionTransformer(np.log1p, feature_names_out="one-to-one"), spline)
    return curve
