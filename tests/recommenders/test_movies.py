"""Tables of films: years out of titles, genres and tags as lists, and the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anyview.errors import UserError
from anyview_recommenders.movies import read_movies

FILMS = """movieId,title,genres
1,"American President, The (1995)",Comedy|Drama|Romance
20,Babylon 5,(no genres listed)
3,"Fawlty Towers (1975-1979)",Comedy
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "movies.csv").write_text(FILMS, encoding="utf-8")
    return tmp_path


def test_years_leave_titles_and_genres_are_lists(folder: Path) -> None:
    films = read_movies(folder)
    assert films["item"].tolist() == [1, 20, 3]
    assert films["title"].tolist() == ["American President, The", "Babylon 5", "Fawlty Towers"]
    assert np.array_equal(films["year"], [1995, np.nan, 1975], equal_nan=True)
    assert films["genres"].tolist() == [["Comedy", "Drama", "Romance"], [], ["Comedy"]]
    assert films["tags"].tolist() == [[], [], []]


def test_tags_are_those_of_all_users_each_once(folder: Path) -> None:
    (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,20,Space ,5\n2,20,space,6\n2,20,war,7\n3,99,gone,8\n")
    assert read_movies(folder)["tags"].tolist() == [[], ["space", "war"], []]


def test_what_cannot_be_read_is_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"movies.csv' cannot be read: .*; give a CSV with movieId, title, genres"):
        read_movies(tmp_path / "nowhere")
    (folder / "tags.csv").write_text("userId,movie,tag\n1,2,x\n")
    with pytest.raises(UserError, match="movieId was expected in its header, and found userId, movie, tag"):
        read_movies(folder)
    (folder / "tags.csv").unlink()
    (folder / "movies.csv").write_text(FILMS + "20,Again,Drama\n")
    with pytest.raises(UserError, match="line 5 has the film '20' again, and one line a film was expected"):
        read_movies(folder)


def test_the_real_films(data_root: Path) -> None:
    films = read_movies(data_root / "recommenders" / "ml-latest-small")
    assert len(films["item"]) == 9125
    assert np.isfinite(films["year"]).mean() > 0.99
    assert len({genre for genres in films["genres"] for genre in genres}) == 19
    assert sum(map(len, films["tags"])) > 900
