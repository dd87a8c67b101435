"""Files of every layout: ids come back exactly, duplicates are merged and told, and every mistake names file, line, expected and found."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from anyview.errors import UserError
from anyview_recommenders.datasets import open_interactions
from anyview_recommenders.interactions import Interactions
from anyview_recommenders.matrices import read_matrix
from anyview_recommenders.raw import Raw
from anyview_recommenders.readers import read_frame, read_path
from anyview_recommenders.tables import Columns

pandas = pytest.importorskip("pandas")

STRANGE = ["007", "7", " 7", "Zoë", "Zoe\u0308", "a, b", "NA", "null", "日本", "1e5"]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def pairs(log: Interactions) -> list[tuple[Any, Any]]:
    return list(zip(log.user_ids[log.user].tolist(), log.item_ids[log.item].tolist(), strict=True))


def read(path: Path, **columns: Any) -> Raw:
    return read_path(path, Columns(**columns))


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
def test_strange_ids_come_back_exactly(tmp_path: Path, ending: str) -> None:
    frame = pandas.DataFrame({"user_id": STRANGE, "item_id": STRANGE[::-1], "timestamp": range(len(STRANGE))})
    path = tmp_path / f"log{ending}"
    if ending == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="," if ending == ".csv" else "\t")
    assert pairs(read(path).log) == list(zip(STRANGE, STRANGE[::-1], strict=True))
    assert pairs(read_frame(frame, Columns(), "it").log) == pairs(read(path).log)


def test_a_column_is_of_integers_only_where_each_is_one(tmp_path: Path) -> None:
    log = read(write(tmp_path / "log.csv", "user,item\n10,01\n-2,1\n10,1\n")).log
    assert log.user_ids.tolist() == [10, -2]
    assert log.user_ids.dtype == np.int64
    assert log.item_ids.tolist() == ["01", "1"]


def test_columns_are_found_by_usual_names_or_as_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "\ufeffwhen;userId;movieId;stars;event\n5;1;2;3.5;view\n6;1;3;1;buy\n")
    log = read(path).log
    assert (log.rating is not None, log.behaviours, log.time) == (True, ("view", "buy"), None)
    assert read(path, time="when").log.time.tolist() == [5.0, 6.0]  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"has the columns 'a', 'b', and none is called as users usually are; name it with --reading.user"):
        read(write(tmp_path / "other.csv", "a,b\n1,2\n"))
    with pytest.raises(UserError, match=r"there is no column of the file .* 'whem'; did you mean 'when'"):
        read(path, time="whem")


def test_repeated_rows_are_merged_and_told(tmp_path: Path) -> None:
    raw = read(write(tmp_path / "log.csv", "user,item,time\n1,2,9\n1,3,8\n1,2,7\n1,2,6\n"))
    assert raw.notes == {"merged": "2 repeated interactions, the first of each kept"}
    assert raw.log.time is not None
    assert raw.log.time.tolist() == [9.0, 8.0]
    both = read(write(tmp_path / "behaviours.csv", "user,item,event\n1,2,view\n1,2,buy\n1,2,view\n"))
    assert len(both.log) == 2


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("log.csv", "user,item\n1,2\n3\n", r"log.csv' cannot be read: line 3 has 1 fields \('3'\), and 2 were expected"),
        ("log.csv", "user,item\n1,2\n,3\n", "line 3 has no user, and one was expected"),
        ("log.csv", "user,item,time\n1,2,5\n1,3,monday\n", "line 3 has 'monday' in the column 'time', and a number was expected"),
        ("log.csv", "user,item,time\n1,2,inf\n", "line 2 has no finite number in the column 'time'"),
        ("log.csv", "", "its first line is empty, and a header was expected"),
        ("log.csv", "user,item\n", "holds no interactions"),
        ("log.inter", "user_id:token,item_id:token\n1,2\n", "name:type with a type of token.* was expected, and there is no tab in it"),
        ("log.inter", "user_id\titem_id:token\n1\t2\n", "line 1 has the field 'user_id', and name:type"),
        ("log.inter", "user_id:token\titem_id:token\n1\t2\n1\n", "line 3 has 1 fields, and the 2 of the header were expected"),
        ("log.inter", "user_id:token\titem_id:token\ttime:float\n1\t2\tx\n", "line 2 has 'x' in the column 'time'"),
        ("log.txt", "1 2 5\n1 3\n1 4 5\na 4 5\n", "line 2 has 2 fields, and 3 were expected with space between"),
        ("log.txt", "1,2,5\n1,3,late\n", "line 2 has the rating 'late', and a number was expected"),
        ("log.txt", "1,2,5\n,3,4\n", "line 2 has no user or item, and both were expected"),
        ("log.txt", "1\n2\n", "no separator is in each of its lines"),
        ("log.json", "{}", r"ends in '.json', and interactions are read from .csv"),
    ],
)
def test_what_cannot_be_read_names_file_line_expected_and_found(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        read(write(tmp_path / name, text))
    assert name in str(error.value)


@pytest.mark.parametrize(
    ("user", "sentence"),
    [
        (["a", 7], "mixes strings and integers as ids, such as 'a' and 7; make them strings"),
        ([1, None], "has no id in 1 of 2 rows, the first is row 1"),
        ([1.0, 2.0], "has ids such as 1.0 of type float, and ids are integers or strings"),
        ([True, False], "has ids such as True of type bool"),
    ],
)
def test_ids_of_a_frame_are_of_one_kind(user: list[Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_frame(pandas.DataFrame({"user": pandas.Series(user), "item": [1, 2]}), Columns(), "the table")


def test_times_of_a_frame_are_numbers_or_datetimes() -> None:
    frame = pandas.DataFrame({"user": [1, 1], "item": [1, 2], "time": ["2020-01-01", "2020-01-02"]})
    with pytest.raises(UserError, match="has to hold numbers, and there is '2020-01-01' in row 0; write times in seconds or as datetimes"):
        read_frame(frame, Columns(), "it")
    for zone in (None, "Europe/Paris"):
        frame["time"] = pandas.to_datetime(["2020-01-01", "2020-01-02"]).tz_localize(zone)
        time = read_frame(frame, Columns(), "it").log.time
        assert time is not None
        assert np.diff(time).tolist() == [86400.0]


def test_atomic_files(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write(folder / "set.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n007\tx y\t3\t10\n7\tz\t4\t20\n")
    log = read(folder).log
    assert pairs(log) == [("007", "x y"), ("7", "z")]
    assert (log.rating.tolist(), log.time.tolist()) == ([3.0, 4.0], [10.0, 20.0])  # type: ignore[union-attr]


def test_other_atomic_files_give_their_columns(tmp_path: Path) -> None:
    from anyview_recommenders.atomic import read_atomic

    table = read_atomic(write(tmp_path / "set.item", "item_id:token\tgenre:token_seq\tyear:float\n3\tDrama War\t1990\n4\t\t1991\n"))
    assert table["item_id"].tolist() == [3, 4]
    assert table["genre"].tolist() == [["Drama", "War"], []]
    assert table["year"].tolist() == [1990.0, 1991.0]


def test_lists_of_items_a_user(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "0 5 6 7\n1 5\n2\n")
    write(tmp_path / "test.txt", "0 8\n2 5\n")
    raw = read(tmp_path)
    assert raw.layout == "a user and all items a line"
    assert raw.log.user_ids.tolist() == [0, 1, 2]
    assert raw.log.item_ids.tolist() == [5, 6, 7, 8]
    assert raw.test is not None
    assert pairs(raw.test) == [(0, 8), (2, 5)]
    with pytest.raises(UserError, match="line 2 has the user '0' of line 1 again"):
        read(write(tmp_path / "twice.txt", "0 1 2 3 4 5\n0 7\n"))


@pytest.mark.parametrize(("separator", "called"), [("\t", "tab"), (",", "comma"), ("::", "::"), (" ", "space")])
def test_triples_and_what_separates_them(tmp_path: Path, separator: str, called: str) -> None:
    rows = [["u1", "9", "4", "100"], ["u1", "8", "2.5", "50"], ["u2", "9", "1", "70"]]
    raw = read(write(tmp_path / "log.dat", "\n".join(separator.join(row) for row in rows) + "\n"))
    assert raw.layout == f"triples with {called} between"
    assert pairs(raw.log) == [("u1", 9), ("u1", 8), ("u2", 9)]
    assert (raw.log.rating.tolist(), raw.log.time.tolist()) == ([4.0, 2.5, 1.0], [100.0, 50.0, 70.0])  # type: ignore[union-attr]


def test_a_list_of_items_in_a_table_is_a_sequence(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "user,items\n1,5 6 4\n2,6\n")
    write(tmp_path / "test.csv", "user,item\n1,9\n")
    raw = read(tmp_path)
    assert pairs(raw.log) == [(1, 5), (1, 6), (1, 4), (2, 6)]
    assert raw.log.time is not None
    assert raw.log.time.tolist() == [0.0, 1.0, 2.0, 0.0]
    assert raw.test is not None
    assert pairs(raw.test) == [(1, 9)]


def test_movie_tables_are_read_by_their_ratings(tmp_path: Path) -> None:
    write(tmp_path / "movies.csv", 'movieId,title,genres\n31,"Dangerous Minds (1995)",Drama\n')
    write(tmp_path / "ratings.csv", "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n")
    raw = read(tmp_path)
    assert pairs(raw.log) == [(1, 31)]
    assert raw.layout == "movie tables, comma"


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("it ran",))


@pytest.mark.parametrize("kind", [sparse.coo_matrix, sparse.csr_matrix, sparse.csc_array])
@pytest.mark.parametrize("protocol", [2, 4])
def test_pickled_matrices(tmp_path: Path, kind: Any, protocol: int) -> None:
    dense = np.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]])
    for name, matrix in (("train_mat.pkl", dense), ("test_mat.pkl", dense[::-1])):
        with (tmp_path / name).open("wb") as file:
            pickle.dump(kind(matrix), file, protocol=protocol)
    raw = read(tmp_path)
    assert pairs(raw.log) == [(0, 1), (0, 2), (1, 0)]
    assert raw.log.matrix().shape == (2, 3)
    assert raw.test is not None


def test_an_old_module_of_a_pickle_is_found(tmp_path: Path) -> None:
    content = pickle.dumps(sparse.coo_matrix(np.eye(2)), protocol=2)
    (tmp_path / "old.pkl").write_bytes(content.replace(b"scipy.sparse._coo", b"scipy.sparse.coo"))
    assert read_matrix(tmp_path / "old.pkl").shape == (2, 2)


def test_nothing_in_a_pickle_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (Bomb(), {"matrix": sparse.coo_matrix(np.eye(2)), "more": Bomb()}):
        (tmp_path / "bad.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(UserError, match=r"bad.pkl' is no pickled sparse matrix \(it holds builtins.print\)"):
            read_matrix(tmp_path / "bad.pkl")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match="holds list, and a sparse matrix of users and items was expected"):
        read_matrix(tmp_path / "list.pkl")
    assert "it ran" not in capsys.readouterr().out


def test_parts_share_one_numbering_and_strings_win(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "user,item\n1,5\n2,5\n")
    write(tmp_path / "valid.csv", "user,item\n2,6\n")
    write(tmp_path / "test.csv", "user,item\n01,5\n")
    raw = read(tmp_path)
    assert raw.validation is not None
    assert raw.test is not None
    assert raw.log.user_ids.tolist() == raw.test.user_ids.tolist() == ["1", "2", "01"]
    assert (pairs(raw.validation), pairs(raw.test)) == ([("2", 6)], [("01", 5)])


def test_a_folder_without_a_log_says_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path / "notes.md", "none")
    with pytest.raises(UserError, match=r"holds notes.md, and train and test files, ratings.csv or one .inter file were expected"):
        read(tmp_path)


def test_options_filter_and_split(tmp_path: Path) -> None:
    rows = "".join(f"{user},{item},{1 + (user + item) % 5},{item}\n" for user in range(6) for item in range(10))
    path = write(tmp_path / "log.csv", "user,item,rating,time\n" + rows)
    source = open_interactions(path, min_rating=3, k_core=3, split="leave_one_out", validation=0)
    assert source.parts.train.rating.min() == 3  # type: ignore[attr-defined]
    assert source.split(0).name == "leave one out, by time"
    assert source.place == str(path)
    assert open_interactions(path).split(0).name.startswith("80/20 % of each user's, by time")
    with pytest.raises(UserError, match=r"no option of the data .* 'k_cor'; did you mean 'k_core'"):
        open_interactions(path, k_cor=4)
    with pytest.raises(UserError, match="there is no split 'temporl'; did you mean 'temporal'"):
        open_interactions(path, split="temporl")
    with pytest.raises(UserError, match="the option share of a log takes a number, and was given 'most'"):
        open_interactions(path, share="most")
    with pytest.raises(UserError, match="the filter leaves nothing; choose a smaller k_core"):
        open_interactions(path, k_core=40)
    with pytest.raises(UserError, match="has no column of behaviours"):
        open_interactions(path, behaviour="buy")


def test_a_given_split_may_be_joined_again(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "0 5 6 7 8\n1 5 6 7 8 9\n")
    write(tmp_path / "test.txt", "0 9\n1 4\n")
    given, anew = open_interactions(tmp_path, validation=0), open_interactions(tmp_path, split="ratio", validation=0)
    assert given.split(0).name == "given"
    assert len(given.parts.test) == 2  # type: ignore[attr-defined]
    assert len(anew.parts.whole()) == len(given.parts.whole()) == 11  # type: ignore[attr-defined]
    with pytest.raises(UserError, match="is split already, and a filter by k_core would change its parts"):
        open_interactions(tmp_path, k_core=2)


def test_what_is_nowhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no file or folder 'nowhere/log.csv'"):
        open_interactions("nowhere/log.csv")
    with pytest.raises(UserError, match="there is no data set 'lastfn'; did you mean 'lastfm'"):
        open_interactions("lastfn")
    with pytest.raises(UserError, match="interactions were asked for, and the table given is of type list"):
        open_interactions([1, 2])
