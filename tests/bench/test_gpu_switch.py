"""The benchmark of changing models runs through at tiny sizes without a GPU, so that it
doesn't fail at its first use on one."""

from bench import gpu_switch


def rows(printed: str) -> list[list[str]]:
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_a_second_job_is_timed_from_the_end_of_the_first(tmp_path, capsys):
    gpu_switch.main(["jobs", "--tiny", "--root", str(tmp_path)])
    _, begin, step = rows(capsys.readouterr().out)
    assert begin[0] == "its steps begin"
    assert 0 < float(begin[1]) < float(step[1])


def test_each_change_of_the_model_stands_beside_reading_its_bytes(tmp_path, capsys):
    gpu_switch.main(["switch", "--tiny", "--root", str(tmp_path)])
    _, first, other, again = rows(capsys.readouterr().out)
    assert [first[0], other[0]] == [gpu_switch.WAN, gpu_switch.LTX]
    assert again[0] == first[0]
    assert again[1] == first[1]
    assert all(float(row[2]) > 0 for row in (first, other, again))
