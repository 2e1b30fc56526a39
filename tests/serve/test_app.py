"""What a request is answered: an image as `undistill enhance` writes it, or what to do."""

import json
import shutil
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.cli.conftest import Run
from tests.serve.conftest import Serving, picture, served
from undistill.base.errors import UsageError
from undistill.base.files import SAMPLES, WEIGHTS
from undistill.base.record import Record
from undistill.enhance.backends.table import MANY
from undistill.heads import Head
from undistill.heads.head import head_hash
from undistill.serve.faces import FACES
from undistill.serve.heads import place_head, read_heads
from undistill.serve.work import Work


def said() -> PngInfo:
    text = PngInfo()
    text.add_text("parameters", "a portrait, seed 7")
    return text


@pytest.mark.parametrize(
    ("name", "data", "options"),
    [
        ("one.png", picture(pnginfo=said()), {}),
        ("one.jpg", picture(format="JPEG", quality=90, dpi=(72, 72)), {"strength": "0.5"}),
        ("one.webp", picture((70, 90), "WEBP", lossless=True), {}),
        ("one.gif", picture(format="GIF"), {}),
        ("one.png", picture(), {"format": "jpeg", "quality": "80"}),
        ("one.png", picture(), {"strength": "0"}),
    ],
)
def test_the_bytes_are_those_of_enhance(
    serving: Serving,
    undistill: Run,
    tmp_path: Path,
    name: str,
    data: bytes,
    options: dict[str, str],
) -> None:
    (tmp_path / name).write_bytes(data)
    words = ["--backend", "torch", *(word for key, value in options.items() for word in (f"--{key}", value))]
    code, _, errors = undistill(
        "--quiet", "enhance", tmp_path / name, "-o", tmp_path / "out", "--head", "tiny-best", *words
    )
    assert code is None, errors
    (made,) = [path for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")]
    client = serving()
    as_form = client.post("/v1/enhance", files={"image": (name, data)}, data=options)
    as_body = client.post("/v1/enhance", params=options, content=data, headers={"Content-Type": "image/png"})
    for reply in (as_form, as_body):
        assert reply.status_code == 200, reply.text
        assert reply.content == made.read_bytes()
        kinds = {".jpg": "jpeg", ".png": "png", ".webp": "webp"}
        assert reply.headers["Content-Type"] == f"image/{kinds[made.suffix]}"
        assert reply.headers["Undistill-Head"] == "tiny-best"
        assert reply.headers["Undistill-Hash"] == head_hash(WEIGHTS / "tiny-best")
        assert reply.headers["Undistill-Backend"] == "torch"
        assert reply.headers["Undistill-Strength"] == options.get("strength", "1")
        assert int(reply.headers["Undistill-Milliseconds"]) >= 0


def test_another_head_may_be_asked_for_and_notes_are_told(serving: Serving) -> None:
    client = serving()
    form = {"image": picture(format="GIF")}
    first, second = (client.post("/v1/enhance", files=form, data={"head": head}) for head in ("tiny-best", "tiny-esa"))
    assert first.content != second.content
    assert second.headers["Undistill-Head"] == "tiny-esa"
    assert json.loads(first.headers["Undistill-Notes"]) == ["palette read as RGB", "GIF written as PNG"]
    heads = client.get("/v1/heads").json()["heads"]
    assert [head["name"] for head in heads] == ["tiny-best", "tiny-esa"]
    assert "miniature" in heads[1]["summary"] or heads[1]["summary"]
    assert "0.22" in heads[0]["measured"]
    assert "<!--" not in heads[0]["measured"]


def test_heads_are_called_as_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    snapshot = tmp_path / "snapshots" / "0123abcd"
    monkeypatch.setattr(
        "undistill.serve.heads.head_folder", lambda name: Path(name) if Path(name).is_dir() else snapshot
    )
    assert [place_head(text)[0] for text in ("owner/name", "flux1", str(tmp_path / "mine"), f"her={tmp_path}")] == [
        "owner/name",
        "flux1",
        "mine",
        "her",
    ]


def test_another_backend_is_told_and_recorded_as_here(
    undistill: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def fastest(head: Head, device: torch.device, images: int) -> str:
        asked.append(images)
        return "contiguous"

    for module in ("undistill.enhance.backends.table", "undistill.serve.heads"):
        monkeypatch.setattr(f"{module}.fastest", fastest)
    heads = read_heads(["tiny-best", "tiny-esa"], [torch.device("cpu")], "auto", timed=["tiny-best"])
    assert asked == [MANY, 0]
    assert [head.backend for head in read_heads(["tiny-esa"], [torch.device("cpu")], "onnx")] == ["onnx"]
    (tmp_path / "one.png").write_bytes(picture())
    words = ("enhance", tmp_path / "one.png", "-o")
    work = Work(heads, [torch.device("cpu")], places=4)
    with served(work) as url:
        assert undistill(*words, tmp_path / "there", "--server", url)[0] is None
        (entry,) = Record(tmp_path / "there").files.values()
        assert entry["backend"] == "contiguous"
        assert "0 enhanced, 1 done" in undistill(*words, tmp_path / "there", "--head", "tiny-best")[1]
        assert undistill(*words, tmp_path / "here", "--head", "tiny-best")[0] is None
        assert (tmp_path / "here/one.png").read_bytes() == (tmp_path / "there/one.png").read_bytes()
        work.heads["tiny-best"] = replace(heads[0], backend="torch")  # as if it had been started anew
        code, _, errors = undistill(*words, tmp_path / "there", "--server", url)
        assert (code, len(errors.splitlines())) == (2, 1)
        assert "backend contiguous, marked by metadata: choose another folder" in errors
    work.end()


def test_faces_alone_and_marks_may_be_asked_for(serving: Serving) -> None:
    client, sent = serving(), picture()
    kept = client.post("/v1/enhance", files={"image": sent}, data={"where": "face", "no_face": "keep"})
    if FACES:
        assert kept.content == sent
        assert json.loads(kept.headers["Undistill-Notes"]) == ["no face found: kept as it is"]
        assert kept.headers["Undistill-Strength"] == "0"
    else:
        assert kept.status_code == 422
    marked, bare = (
        client.post("/v1/enhance", files={"image": sent}, data={"provenance": said}).content for said in ("1", "0")
    )
    assert b"compositeWithTrainedAlgorithmicMedia" in marked
    assert b"Algorithmic" not in bare


@pytest.mark.skipif(not FACES, reason="needs dlib")
def test_faces_are_found(serving: Serving) -> None:
    client, buffer = serving(), BytesIO()
    portrait = Image.open(SAMPLES / "schnell-000123-ceo.webp").convert("RGB").resize((320, 320))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    portrait.rotate(90).save(buffer, "JPEG", exif=exif)
    reply = client.post("/v1/faces", files={"image": buffer.getvalue()})
    ((left, top, right, bottom),) = reply.json()["faces"]
    assert 0 <= left < 160 < right <= 320
    assert 0 <= top < 160 < bottom <= 320
    assert client.post("/v1/faces", files={"image": picture()}).json() == {"faces": []}
    assert client.post("/v1/faces", files={"image": picture()[:200]}).status_code == 422
    assert client.post("/v1/faces", files={"image": picture()}, data={"head": "flux1"}).status_code == 422


def animation() -> bytes:
    buffer = BytesIO()
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def clear() -> bytes:
    buffer = BytesIO()
    Image.new("RGBA", (64, 64)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        ({"content": b"x", "headers": {"Content-Type": "text/plain"}}, 415, "curl -F image=@FILE"),
        ({"data": {"strength": "1"}}, 415, "curl -F image=@FILE"),
        ({"content": b"x", "headers": {"Content-Type": "image/png", "Content-Encoding": "gzip"}}, 415, "Encoding"),
        ({"files": {"image": b"GIF89a"}}, 415, "no image in a format that is read"),
        ({"files": {"image": b"%PDF-1.7"}}, 415, "no image in a format that is read"),
        ({"files": {"image": b""}}, 422, "empty"),
        ({"files": {"image": picture()[:200]}}, 422, "The image is broken"),
        ({"files": {"image": animation()}}, 422, "only still images"),
        ({"files": {"image": clear()}, "data": {"format": "jpeg"}}, 422, "take the format png"),
        ({"files": {"picture": picture()}}, 422, "call it so"),
        ({"files": {"image": picture(), "mask": picture()}}, 400, "one file, image"),
        ({"files": {"image": picture()}, "data": {"strenth": "1"}}, 422, "did you mean strength?"),
        ({"files": {"image": picture()}, "data": {"strength": "nan"}}, 422, "strength:"),
        ({"files": {"image": picture()}, "params": {"strength": "2"}}, 422, "strength:"),
        ({"files": {"image": picture()}, "data": {"head": "../../etc"}}, 422, "tiny-best, tiny-esa"),
        ({"files": {"image": picture()}, "data": {"format": "avif", "lossless": "1"}}, 422, "without loss"),
        ({"files": {"image": picture()}, "data": {"format": "png", "quality": "9"}}, 422, "leave it out"),
        ({"content": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 422, "form"),
        ({"content": b"", "headers": {"Content-Type": "multipart/form-data"}}, 400, "form"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(
    serving: Serving, work: Work, asked: dict[str, Any], status: int, says: str
) -> None:
    reply = serving().post("/v1/enhance", **asked)
    assert reply.status_code == status, reply.text
    assert reply.headers["Content-Type"] == "application/problem+json"
    problem = reply.json()
    assert problem["status"] == status
    assert says in problem["detail"]
    assert "/root" not in reply.text
    assert "object at 0x" not in reply.text
    assert work.taken == 0


def test_too_many_bytes_and_pixels_are_refused_before_anything_is_decoded(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undistill.enhance.bytes.decode", lambda _: pytest.fail("decoded"))
    client = serving(bytes=10_000, pixels=5_000)
    for length in (80_000, 10_001):
        reply = client.post("/v1/enhance", files={"image": b"x" * length})
        assert (reply.status_code, reply.json()["type"]) == (413, "urn:undistill:bytes")
    kind = {"Content-Type": "image/png"}
    unannounced = client.post("/v1/enhance", content=iter([b"x" * 6000] * 3), headers=kind)
    assert unannounced.status_code == 413
    reply = client.post("/v1/enhance", files={"image": picture((100, 51))})
    assert (reply.status_code, reply.json()["type"]) == (413, "urn:undistill:pixels")
    header = b"IHDR" + (40_000).to_bytes(4, "big") * 2 + picture()[24:29]
    bomb = picture()[:12] + header + crc32(header).to_bytes(4, "big") + picture()[33:]
    reply = serving().post("/v1/enhance", files={"image": bomb})
    assert (reply.status_code, reply.json()["type"]) == (413, "urn:undistill:pixels")


def test_uploads_are_never_written_to_disk(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SpooledTemporaryFile, "rollover", lambda _: pytest.fail("on the disk"))
    noise = BytesIO()
    Image.effect_noise((1500, 1500), 100).save(noise, "PNG")  # beyond the megabyte at which starlette's would
    assert len(noise.getvalue()) > 2_000_000
    reply = serving().post("/v1/enhance", files={"image": noise.getvalue()}, data={"strength": "0"})
    assert reply.content == noise.getvalue()


def test_unknown_names_and_methods(serving: Serving) -> None:
    client = serving()
    assert client.get("/etc/passwd").json()["type"] == "urn:undistill:path"
    assert client.get("/samples/..%2f..%2fpyproject.toml").status_code == 404
    reply = client.get("/v1/enhance")
    assert (reply.status_code, reply.headers["Allow"]) == (405, "POST")
    assert client.get("/samples").json()
    assert client.get(f"/samples/{client.get('/samples').json()[0]}").headers["Content-Type"] == "image/webp"
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


def test_metrics_count_what_was_asked(serving: Serving) -> None:
    client = serving()
    client.post("/v1/enhance", files={"image": picture()})
    client.post("/v1/enhance", files={"image": b"x"})
    text = client.get("/metrics").text
    for line in (
        'undistill_requests_total{path="/v1/enhance",status="200"} 1.0',
        'undistill_refusals_total{reason="type"} 1.0',
        f'undistill_bytes_total{{way="in"}} {float(len(picture()))}',
        'undistill_seconds_count{part="work"} 1.0',
        "undistill_queue 0.0",
    ):
        assert line in text


def test_what_is_answered_as_it_came_is_of_a_kind_that_the_schema_names(serving: Serving) -> None:
    client = serving()
    two = BytesIO()
    first, second = (Image.open(BytesIO(picture(seed=seed))) for seed in (0, 1))
    first.save(two, "MPO", save_all=True, append_images=[second])
    kinds = client.get("/openapi.json").json()["paths"]["/v1/enhance"]["post"]["responses"]["200"]["content"]
    for data, kind in ((two.getvalue(), "image/jpeg"), (picture(format="GIF"), "image/png")):
        reply = client.post("/v1/enhance?strength=0", files={"image": data})
        assert reply.headers["Content-Type"] == kind in kinds
        assert (reply.content == data) == (kind == "image/jpeg")


@pytest.mark.parametrize(
    ("place", "text", "name"),
    [("lr=1/head", "lr=1/head", "head"), ("head", "a=head", "a"), ("m\u00fcller", "m\u00fcller", "m\u00fcller")],
)
def test_heads_are_called_by_name_or_folder(
    place: str, text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(WEIGHTS / "tiny-best", place)
    (head,) = read_heads([text], [torch.device("cpu")])
    assert (head.name, head.folder) == (name, tmp_path / place)


@pytest.mark.parametrize(
    ("text", "said"), [("=head", "write NAME=DIR"), ("a=", "write NAME=DIR"), ("\u5934=head", "headers")]
)
def test_a_name_that_no_answer_can_hold_is_refused(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(WEIGHTS / "tiny-best", "head")
    with pytest.raises(UsageError, match=said):
        read_heads([text], [torch.device("cpu")])


def test_an_image_is_compared(serving: Serving, work: Work) -> None:
    body = picture(format="JPEG")
    answer = serving().post("/v1/compare", files={"image": body}, data={"strength": "0.5"}).json()
    assert set(answer) == {"student", "enhanced"}
    shown = {name: Image.open(BytesIO(b64decode(each["png"]))) for name, each in answer.items()}
    before = np.asarray(shown["student"], np.int16)
    assert np.array_equal(before, np.asarray(Image.open(BytesIO(body))))
    by_hand = serving().post("/v1/enhance", params={"strength": 0.5, "format": "png"}, files={"image": body}).content
    assert np.array_equal(np.asarray(shown["enhanced"]), np.asarray(Image.open(BytesIO(by_hand))))
    assert all(each["seconds"] >= 0 for each in answer.values())
    for refused in ({"where": "face"}, {"head": "nobody"}):
        assert serving().post("/v1/compare", files={"image": body}, data=refused).status_code == 422
