"""Parts cover a row exactly once, and who works on them keeps out of each other's way."""

import platform
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from lora_core import company as company_module
from lora_core.company import Company
from lora_core.errors import DataError, ResourceError
from lora_core.process import is_written, only_one
from lora_core.share import Share, Turns, named_host, require_same


@pytest.mark.parametrize("count", [1, 2, 3, 7, 50])
def test_every_piece_is_in_exactly_one_part(count: int) -> None:
    shares = [Share(index, count) for index in range(count)]
    pieces = list(range(20))
    assert sorted(piece for share in shares for piece in share.of(pieces)) == pieces
    costs = [1, 9, 4, 4, 1, 1, 1, 25, 2, 2, 6, 6, 6, 1]
    turns = [Turns(share, sum(costs)) for share in shares]
    owners = [[index for index, one in enumerate(turns) if one.take(cost)] for cost in costs]
    assert all(len(owner) == 1 for owner in owners)
    assert owners == sorted(owners)  # neighbours together
    for share in shares:
        load = sum(cost for cost, (owner,) in zip(costs, owners, strict=True) if owner == share.index)
        assert load <= sum(costs) / count + max(costs)
        assert Share.parse(str(share)) == share


def test_a_part_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no part 2 of 2"):
        Share(2, 2)


def test_errors_name_the_machine_and_the_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^on {platform.node()}: {tmp_path} .* the base differ .*shared folder"), (
        named_host()
    ):  # fmt: skip
        require_same("a" * 64, "b" * 64, "the base", tmp_path)


def test_one_waits_for_those_at_work_and_for_no_one_else(tmp_path: Path) -> None:
    one, other = (Company(tmp_path, Share(index, 2)) for index in range(2))
    there, begun = threading.Event(), threading.Event()

    def work() -> None:
        with other.at_work():
            begun.set()
            there.wait(60)

    worker = threading.Thread(target=work)
    with one.at_work():
        assert not one.wait_for([tmp_path / "never"])
        worker.start()
        begun.wait(60)
        made, looks = tmp_path / "made", []
        made.touch()

        class Picture:
            def exists(self) -> bool:
                looks.append(there.is_set())
                if len(looks) == 3:  # still waiting, and it has looked again
                    there.set()
                return there.is_set() and len(looks) > 3

        assert one.wait_for([made, Picture()])
        worker.join()


def test_what_is_there_is_not_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company_module, "_POLL_SECONDS", 0.01)
    one, other, looks = Company(tmp_path, Share(0, 2)), Company(tmp_path, Share(1, 2)), []

    class Picture:
        def __init__(self, name: str, needed: int) -> None:
            self.name, self.needed = name, needed

        def exists(self) -> bool:
            looks.append(self.name)
            return looks.count(self.name) >= self.needed

    with other.at_work():
        assert one.wait_for([Picture("early", 1), Picture("late", 3)])
    assert looks == ["early", "late", "late", "late"]


def test_a_part_steps_back_where_the_whole_began_while_it_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(company_module, "_POLL_SECONDS", 0.01)
    part, whole = Company(tmp_path, Share(0, 2)), []

    def late(folder: Path, timeout: float) -> FileLock:
        lock = only_one(folder, timeout)
        if not whole:
            whole.append(only_one(tmp_path))
        return lock

    monkeypatch.setattr(company_module, "only_one", late)
    with pytest.raises(ResourceError, match="is being written by another run"), part.at_work(patience=0.1):
        pytest.fail("it was let in")
    assert not is_written(tmp_path / "0-of-2")  # the whole, which waits for it, can go on
    whole[0].release()
    with part.at_work(patience=0.1):
        assert is_written(tmp_path / "0-of-2")


def test_parts_and_the_whole_exclude_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(company_module, "_POLL_SECONDS", 0.01)
    part, whole = Company(tmp_path, Share(0, 2)), Company(tmp_path, Share())
    for first, second in ((part, whole), (whole, part), (part, Company(tmp_path, Share(0, 2)))):
        with (
            first.at_work(),
            pytest.raises(ResourceError, match="is being written by another run"),
            second.at_work(patience=0.1),
        ):
            pytest.fail("both were let in")
    with part.at_work(), Company(tmp_path, Share(1, 2)).at_work():
        pass
