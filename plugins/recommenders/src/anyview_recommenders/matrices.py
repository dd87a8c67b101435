"""Sparse matrices that were pickled, as SSLRec's data sets are, read without running what a pickle may hold."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from anyview.errors import UserError
from anyview_recommenders.interactions import Interactions

SPARSE = ("coo_matrix", "csr_matrix", "csc_matrix", "coo_array", "csr_array", "csc_array", "dok_matrix", "lil_matrix")
_ONE = np.zeros(1)
BUILDERS = {"_reconstruct": _ONE.__reduce__()[0], "_frombuffer": _ONE.__reduce_ex__(5)[0], "scalar": np.float64(0).__reduce__()[0]}
"""What NumPy pickles arrays and numbers with, which lies in another module in each of its major versions."""


def _latin(text: str, encoding: str) -> bytes:
    """What older pickles write bytes as; no other encoding is taken, because codecs can do more than encode."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes as {encoding}")
    return text.encode("latin1")


ALLOWED = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype, ("_codecs", "encode"): _latin}


class _MatricesOnly(pickle.Unpickler):
    """Finds the classes of NumPy's arrays and SciPy's sparse matrices, wherever older versions had them, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("scipy.sparse") and name in SPARSE:
            return getattr(sparse, name)
        if module.startswith(("numpy.core.", "numpy._core.")) and name in BUILDERS:
            return BUILDERS[name]
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        raise pickle.UnpicklingError(f"it holds {module}.{name}")


def read_matrix(path: Path) -> sparse.coo_array:
    """The sparse matrix (U, I) in a .pkl or .npz file; raises UserError where there is none, or the file holds anything else than one."""
    try:
        if path.suffix == ".npz":
            matrix = sparse.load_npz(path)
        else:
            with path.open("rb") as file:
                matrix = _MatricesOnly(file).load()
        found = type(matrix).__name__
    except (pickle.UnpicklingError, AttributeError, EOFError, ValueError, KeyError, IndexError, ImportError, TypeError, OSError) as error:
        raise UserError(
            f"{str(path)!r} is no pickled sparse matrix ({error}), and nothing else is read of it; write it with save_npz"
        ) from error
    if not sparse.issparse(matrix):
        raise UserError(f"{str(path)!r} holds {found}, and a sparse matrix of users and items was expected; check the file")
    return sparse.coo_array(matrix)


def read_pairs(path: Path, *, timed: bool = False) -> Interactions:
    """The entries of a sparse matrix (U, I) that are not zero; ids are row and column numbers. timed: the values are times."""
    matrix = read_matrix(path)
    there = matrix.data != 0
    rows, columns, values = matrix.row[there], matrix.col[there], matrix.data[there]
    order = np.lexsort((columns, rows))
    users, items = map(np.arange, matrix.shape)
    time = values[order].astype(np.float64) if timed else None
    return Interactions(rows[order].astype(np.int64), columns[order].astype(np.int64), users, items, time=time)
