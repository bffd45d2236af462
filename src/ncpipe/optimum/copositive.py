"""max gᵀQg over unit vectors g >= 0, from both sides: what h >= 0 asks of residuals, theory.md (29).

λ² I − RᵀR copositive is all that the bound (9a) needs, and (9a) proves it by a positive semidefinite plus a nonnegative
matrix. Parrilo's level 1 proves more: with symmetric M₁ … M_S,

    tI − Q − M_i ⪰ 0 ,   (M_i)_ii = 0 ,   (M_i)_jj + 2 (M_j)_ij = 0 ,   (M_i)_jk + (M_j)_ik + (M_k)_ij >= 0 ,

(Σ x_i²) Σ (tI − Q)_ij x_i² x_j² is a sum of squares plus terms that are >= 0. S blocks of size S: for small S only.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from scipy import sparse

from ncpipe.errors import InputError, check_array

LARGEST = 16  # rows of Q up to which level 1, of S³/2 unknowns, is computed: seconds
_STARTS, _STEPS = 32, 2000


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    matrix = check_array("matrix", matrix, ("row", "column")).astype(np.float64)
    if matrix.shape[0] != matrix.shape[1] or not np.allclose(matrix, matrix.T, atol=1e-12 * np.abs(matrix).max()):
        raise InputError(f"matrix: found shape {matrix.shape}, or unequal halves; allowed: a symmetric matrix")
    return (matrix + matrix.T) / 2


def nonnegative_peak(matrix: np.ndarray, *, seed: int = 0) -> tuple[float, np.ndarray]:
    """A value gᵀQg reached by a unit vector g >= 0, and g: a lower bound on the largest.

    Projected power iteration on Q + cI from `_STARTS` starts, each a sequence of rising values.

    Parameters
    ----------
    matrix : ndarray, shape (S, S)
        Q, symmetric.
    seed : int

    Raises
    ------
    InputError
        If the matrix is not symmetric or not finite.
    """
    matrix = _symmetric(matrix)
    size = len(matrix)
    lift = matrix + max(0.0, -float(np.linalg.eigvalsh(matrix)[0])) * np.eye(size)
    rng = np.random.default_rng(seed)
    points = np.hstack([np.eye(size), np.abs(rng.normal(size=(size, _STARTS)))])  # (S, starts)
    points /= np.linalg.norm(points, axis=0)
    for _ in range(_STEPS):
        moved = np.maximum(lift @ points, 0.0)
        norms = np.linalg.norm(moved, axis=0)
        moved = np.where(norms > 0, moved / np.where(norms > 0, norms, 1.0), points)
        if np.abs(moved - points).max() < 1e-15:
            break
        points = moved
    values = np.einsum("is,ij,js->s", points, matrix, points)
    best = int(values.argmax())
    return float(values[best]), points[:, best]


def copositive_ceiling(matrix: np.ndarray) -> float:
    """The least t that level 1 proves to be >= gᵀQg for all unit vectors g >= 0, theory.md (29).

    What the interior-point solver returns is repaired until every equality and inequality holds, and t is taken from
    the largest eigenvalue of the repaired blocks: an upper bound whatever the solver's accuracy.

    Parameters
    ----------
    matrix : ndarray, shape (S, S)
        Q, symmetric, S <= `LARGEST`.

    Raises
    ------
    InputError
        If the matrix is not symmetric, not finite, or too large.
    """
    matrix = _symmetric(matrix)
    size = len(matrix)
    if size > LARGEST:
        raise InputError(f"matrix: found {size} rows; allowed: at most {LARGEST} (S³/2 unknowns)")
    blocks = _repaired(_level_one(matrix))
    return max(float(np.linalg.eigvalsh(matrix + block)[-1]) for block in blocks)


def _level_one(matrix: np.ndarray) -> np.ndarray:
    """M_1 … M_S of the level-1 program, shape (S, S, S), as Clarabel returns them."""
    import clarabel

    size = len(matrix)
    pairs = [
        (j, k) for k in range(size) for j in range(k + 1)
    ]  # columns of the upper triangle, as Clarabel stacks them
    position = {pair: p for p, pair in enumerate(pairs)}
    triangle = len(pairs)
    unknowns = 1 + size * triangle  # t, then each M_i

    def at(i: int, j: int, k: int) -> int:
        return 1 + i * triangle + position[min(j, k), max(j, k)]

    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    right: list[float] = []
    cones: list[Any] = []

    def add(entries: dict[int, float], constant: float) -> None:
        """One row: constant − Σ entries · unknowns lies in the cone."""
        rows.extend([len(right)] * len(entries))
        columns.extend(entries)
        values.extend(entries.values())
        right.append(constant)

    for i in range(size):
        add({at(i, i, i): 1.0}, 0.0)
        for j in (j for j in range(size) if j != i):
            add({at(i, j, j): 1.0, at(j, i, j): 2.0}, 0.0)
    cones.append(clarabel.ZeroConeT(len(right)))
    triples = list(combinations(range(size), 3))
    for i, j, k in triples:
        add({at(i, j, k): -1.0, at(j, i, k): -1.0, at(k, i, j): -1.0}, 0.0)
    if triples:
        cones.append(clarabel.NonnegativeConeT(len(triples)))
    for i in range(size):
        for j, k in pairs:
            scale = 1.0 if j == k else np.sqrt(2.0)
            entries = {at(i, j, k): scale} | ({0: -1.0} if j == k else {})
            add(entries, -scale * float(matrix[j, k]))
        cones.append(clarabel.PSDTriangleConeT(size))
    constraint = sparse.csc_matrix((values, (rows, columns)), shape=(len(right), unknowns))
    cost = np.zeros(unknowns)
    cost[0] = 1.0
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    solution = clarabel.DefaultSolver(
        sparse.csc_matrix((unknowns, unknowns)), cost, constraint, np.array(right), cones, settings
    ).solve()
    found = np.array(solution.x)[1:].reshape(size, triangle)
    upper = np.zeros((size, size, size))
    for p, (j, k) in enumerate(pairs):
        upper[:, j, k] = upper[:, k, j] = found[:, p]
    return upper


def _repaired(blocks: np.ndarray) -> np.ndarray:
    """The nearest blocks at hand that satisfy every equality and inequality of level 1, shape (S, S, S)."""
    size = len(blocks)
    blocks = blocks.copy()
    for i in range(size):
        blocks[i, i, i] = 0.0
        for j in (j for j in range(size) if j != i):
            blocks[i, j, j] = -2 * blocks[j, i, j]
    for i, j, k in combinations(range(size), 3):
        lack = max(0.0, -(blocks[i, j, k] + blocks[j, i, k] + blocks[k, i, j])) / 3
        for a, b, c in ((i, j, k), (j, i, k), (k, i, j)):
            blocks[a, b, c] += lack
            blocks[a, c, b] = blocks[a, b, c]
    return blocks
