"""Images and results in S3, of a server on this machine."""

import json

import pytest
from annotation_files import rows

from carsam.errors import UserError

pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def bucket():
    """The client of a server that is reached as Amazon's is, with an empty bucket `photos`."""
    import fsspec

    running = server.ThreadedMotoServer("127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    variables = {**dict.fromkeys(names, "test"), "AWS_DEFAULT_REGION": "us-east-1"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**variables, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        client = fsspec.filesystem("s3", use_listings_cache=False)
        client.mkdir("photos")
        yield client
        client.clear_instance_cache()
    running.stop()


def test_photos_and_masks_may_lie_in_s3(bucket, annotated, scenes, tmp_path):
    annotated(out=tmp_path / "undisturbed", shard_size=4)
    bucket.put(str(scenes / "images"), "photos/val/", recursive=True)
    boxes, options = scenes / "instances.json", {"shard_size": 4, "out": "s3://photos/masks"}
    assert annotated("s3://photos/val", boxes=boxes, shard=(2, 2), **options).images == 2
    summary = annotated("s3://photos/val", boxes=boxes, **options)
    assert (summary.shards, summary.there, summary.errors) == (1, 1, 0)
    names = sorted(name.rpartition("/")[2] for name in bucket.find("photos/masks"))
    assert names == ["annotation.json", "shard-000000.json", "shard-000001.json"]
    found = [
        json.loads(bucket.cat_file(f"photos/masks/shard-00000{number}.json")) for number in (0, 1)
    ]
    annotations = [each for shard in found for each in shard["annotations"]]
    assert annotations == rows(tmp_path / "undisturbed", "annotations")


def test_a_bucket_that_is_not_there_is_named(bucket, annotated, scenes):
    with pytest.raises(UserError, match="Cannot write s3://nowhere/out/annotation"):
        annotated(out="s3://nowhere/out", boxes=scenes / "instances.json")
    with pytest.raises(UserError, match="Found no image in s3://nowhere"):
        annotated("s3://nowhere", boxes=scenes / "instances.json")
