"""Addresses, and secrets that must not be in them or in what is said."""

import pytest

from cpp.files import credentials, filesystem, slow_servers, tables
from cpp.sources import paths
from pipelines.config.errors import ConfigError
from pipelines.config.load import load
from pipelines.engine.inputs import input_files
from tests.support.datasets import Dataset
from tests.support.object_store import ObjectStore, disconnect

SECRET = [
    "s3://key:hidden@bucket/run",
    "https://user:hidden@example.org/a.tar",
    "https://example.org/a.tar?X-Amz-Signature=hidden&X-Amz-Expires=60",
    "https://example.org/a.tar?sv=2024&sig=hidden",
    "https://example.org/a.tar?access_token=hidden",
    "filecache::s3://key:hidden@bucket/run",
]


@pytest.mark.parametrize("address", SECRET)
def test_addresses_with_credentials_are_refused_without_repeating_them(address: str) -> None:
    with pytest.raises(ValueError, match="holds credentials") as error:
        credentials.check_address(address)
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize("address", ["/a/b@c", "s3://bucket/a@b", "https://example.org/a.tar?download=1", "words.txt"])
def test_other_addresses_pass(address: str) -> None:
    credentials.check_address(address)


@pytest.mark.parametrize("key", ["root", "data", "import.path", "label.vocabulary"])
def test_a_configuration_with_credentials_is_refused_by_its_key(dataset: Dataset, key: str) -> None:
    value = f"[{SECRET[0]}]" if key == "label.vocabulary" else SECRET[0]
    with pytest.raises(ConfigError, match=rf"{key}: the address s3://\.\.\. holds credentials") as error:
        load(dataset.config, [f"{key}={value}"])
    assert "hidden" not in str(error.value)


def test_a_list_of_files_with_signed_addresses_is_refused(dataset: Dataset) -> None:
    (dataset.folder / "tars.txt").write_text("https://example.org/0.tar\n" + SECRET[2])
    with pytest.raises(ValueError, match="holds credentials") as error:
        paths.expand([str(dataset.folder / "tars.txt")])
    assert "hidden" not in str(error.value)


def test_roots_that_cannot_be_written_to_are_refused(dataset: Dataset) -> None:
    for root in ("https://example.org/run", "s3://", "hdfs://name/run"):
        with pytest.raises(ConfigError, match=r"root: .* cannot be written to: name a folder, s3://BUCKET/FOLDER"):
            load(dataset.config, [f"root={root}"])


def test_what_errors_say_is_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t/key")
    said = "403 for https://u:pw@example.org/a.tar?part=1&X-Amz-Signature=abc123 with s3cr3t/key; kept s3://bucket/a@b"
    expected = "403 for https://***@example.org/a.tar?part=1&X-Amz-Signature=*** with ***; kept s3://bucket/a@b"
    assert credentials.redacted(said) == expected


@pytest.mark.parametrize("of", ["HEAD", "GET"])
def test_a_refused_file_is_named(s3: ObjectStore, of: str) -> None:
    filesystem.connect("s3://bucket")[0].pipe_file("bucket/a.tar", bytes(1000))
    s3.fault = lambda method, path: "403" if (of, path) == (method, "/bucket/a.tar") else None
    with pytest.raises(PermissionError, match=r"s3://bucket/a\.tar"), filesystem.open_file("s3://bucket/a.tar") as file:
        file.read()


@pytest.mark.bucket
def test_a_request_to_a_bucket_that_is_repeated_is_reported(
    s3: ObjectStore, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slow_servers, "SILENCE", 0.0)
    filesystem.connect("s3://bucket")[0].pipe_file("bucket/a.tar", b"content")
    faults = ["503"]
    s3.fault = lambda method, path: faults.pop() if faults and (method, path) == ("GET", "/bucket/a.tar") else None
    with filesystem.open_file("s3://bucket/a.tar", ahead=True) as file:
        assert file.read() == b"content"
    assert "s3: a request failed and is repeated (delay of: " in capfd.readouterr().out


def test_a_refused_table_is_named(s3: ObjectStore) -> None:
    s3.fault = lambda method, path: "403"
    for read in (tables.read, tables.read_schema, lambda path: next(tables.batches([path], ["x"], 1))):
        with pytest.raises(PermissionError, match=r"s3://bucket/a\.parquet"):
            read("s3://bucket/a.parquet")


@pytest.mark.parametrize(
    ("key", "secret", "said"), [("", "", "NoCredentialsError"), ("me", "hidden", "EndpointConnectionError")]
)
def test_inputs_that_cannot_be_reached_are_named_with_the_remedy(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, key: str, secret: str, said: str
) -> None:
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    here = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    nowhere = {"AWS_CONFIG_FILE": "/none", "AWS_SHARED_CREDENTIALS_FILE": "/none", "AWS_EC2_METADATA_DISABLED": "true"}
    for name, value in (here | nowhere).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setitem(filesystem.OPTIONS["s3"]["config_kwargs"], "retries", {"max_attempts": 0})
    disconnect()
    with pytest.raises(ConfigError, match=rf"import: cannot be read \({said}.*`data`, now 's3://bucket/in'.*AWS_"):
        input_files(load(dataset.config, ["data=s3://bucket/in", "label=null"]))
    disconnect()
