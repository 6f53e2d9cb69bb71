"""The published column is the paper's; ours says "not measured" wherever nothing was."""

import io
import json

from rich.console import Console

from training.evaluation.paper_table import NOT_MEASURED, main, our_rows, paper_table

TFCOVR = {"summary": {"num_triplets": {"train": 150_000, "val": 15_000, "test": 15_000}}}


def shown(table):
    out = io.StringIO()
    Console(file=out, width=140).print(table)
    return out.getvalue()


def metrics(names, **about):
    return {
        "rows": [{"name": name, "map@50": 0.1 + n / 100} for n, name in enumerate(names)],
        "release": {"rows": [{"name": name, "map@50": 20.0 + n} for n, name in enumerate(names)]},
        "split": "test",
        "num_queries": 3,
        "gallery_size": 4,
        **about,
    }


def test_without_a_measurement_no_cell_of_ours_has_a_figure(capsys):
    assert main([]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "zero-shot" in line]
    assert len(lines) == 2
    text = shown(paper_table([], data=NOT_MEASURED))
    assert text.count(NOT_MEASURED) == 2 * 5 + 1
    for figure in ("5.92", "7.51", "19.83", "25.82", "27.22"):
        assert text.count(figure) == 1


def test_rows_stand_beside_what_they_repeat_and_others_below(tmp_path, capsys):
    paths = []
    for n, record in enumerate(
        [
            metrics(["composed", "raw"], data="DIR", **TFCOVR),
            metrics(["video_only"], model="clip-b16"),
        ]
    ):
        path = tmp_path / f"{n}.json"
        path.write_text(json.dumps(record))
        paths.append(str(path))
    main(paths)
    lines = capsys.readouterr().out.splitlines()
    base = next(line for line in lines if "TF-CoVR-Base, v2" in line)
    assert all(figure in base for figure in ("27.22", "10.00", "20.00"))
    other = next(line for line in lines if "TF-CoVR-Base, v1" in line)
    assert other.count(NOT_MEASURED) == 2
    assert any("clip-b16, video_only" in line and "10.00" in line for line in lines)
    assert any("clip alone" in line and "11.00" in line for line in lines)


def test_controls_of_a_fine_tuned_run_are_no_rows_of_the_paper():
    assert [
        row.method for row in our_rows(metrics(["composed", "mean", "text_only"], **TFCOVR))
    ] == ["TF-CoVR-Base, v2"]


def test_other_data_never_stands_beside_a_published_figure():
    small = {"summary": {"num_triplets": {"train": 1600, "test": 400}}}
    rows = our_rows(metrics(["composed"], **small))
    assert [row.method for row in rows] == ["TF-CoVR-Base, on other data"]
    lines = shown(paper_table(rows, data="DIR")).splitlines()
    assert sum(NOT_MEASURED in line for line in lines) == 5
    (own,) = [line for line in lines if "on other data" in line]
    assert "10.00" in own
    assert "27.22" not in own
