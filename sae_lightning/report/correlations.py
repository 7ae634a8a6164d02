"""Which latents fire together: the correlation of their activations over tokens or samples."""

from jaxtyping import Float, Int64
from scipy.sparse import csr_array
from torch import Tensor


def strongest_correlations(
    rows: Int64[Tensor, " nnz"],
    columns: Int64[Tensor, " nnz"],
    values: Float[Tensor, " nnz"],
    shape: tuple[int, int],
    n_top: int,
) -> list[list[tuple[int, float]]]:
    """Return for each column the others with the largest Pearson correlation, the largest first, positive ones alone.

    Sums of products are taken over entries alone, so the cost is that of the pairs which fire together.

    Args:
        rows: token or sample of each entry, counted from 0.
        columns: latent of each entry.
        values: its activation.
        shape: tokens or samples, and latents.
        n_top: how many.
    """
    n_rows, n_columns = shape
    codes = csr_array((values.double().numpy(), (rows.numpy(), columns.numpy())), shape=shape)
    means = codes.sum(0) / n_rows
    deviations = ((codes.power(2).sum(0) / n_rows - means**2).clip(min=0)) ** 0.5
    products = (codes.T @ codes).tocsr()
    strongest = []
    for column in range(n_columns):
        others = products.indices[products.indptr[column] : products.indptr[column + 1]]
        both = products.data[products.indptr[column] : products.indptr[column + 1]] / n_rows
        scale = deviations[column] * deviations[others]
        known = (others != column) & (scale > 0)
        correlations = (both - means[column] * means[others])[known] / scale[known]
        pairs = zip(others[known].tolist(), correlations.tolist(), strict=True)
        positive = [(other, correlation) for other, correlation in pairs if correlation > 0]
        strongest.append(sorted(positive, key=lambda pair: (-pair[1], pair[0]))[:n_top])
    return strongest
