"""How texts become what the model learns from; used in training and in serving alike."""

from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer


def preprocessor():
    """Weigh each word, and each pair of neighbours, by how rare it is."""
    return make_column_transformer((TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), TEXT_COLUMN))
