"""How rows become what the model learns from; used in training and in serving alike."""

import numpy as np
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

VECTORS = VECTOR_COLUMNS


def matrix(rows):
    """Make one row of numbers of the lists in each row."""
    return np.hstack([np.stack(rows[name]) for name in rows])


def words(rows):
    """Name the columns that hold neither numbers nor lists."""
    return [name for name in rows.select_dtypes(exclude="number") if name not in VECTORS]


def preprocessor():
    """Bring numbers and lists to the same scale, gaps filled; make one column of each word, and of its absence."""
    numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    return make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), words),
        (make_pipeline(FunctionTransformer(matrix), StandardScaler()), VECTORS),
    )
