"""Settings as people really write them: whitespace and marks around a value are removed, invisible mistakes refused."""

import codecs
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.crm.mapping import load_mapping
from service.errors import ConfigurationError
from service.formant.targets import load_targets, read_secrets
from service.settings import KEYS, NAMES, SECRETS, SYNC_SECRETS, read_settings, read_sync_settings
from service.values import clean, clean_key, clean_secret, read_text_file

ALL_SECRETS = sorted((SECRETS | SYNC_SECRETS) - {"OUTCOMES_SPILL_URL"})  # that one is held to its form besides
SECRET = "whsec_4f2a"
FILES = {
    "a line end": b"whsec_4f2a\n",
    "CRLF": b"whsec_4f2a\r\n",
    "several line ends": b"whsec_4f2a\r\n\n\r\n",
    "blanks": b" \t whsec_4f2a \t",
    "a no-break space": b"whsec_4f2a\xc2\xa0",
    "UTF-8 with a mark": codecs.BOM_UTF8 + b"whsec_4f2a",
    "UTF-8 with a mark and CRLF": codecs.BOM_UTF8 + b"whsec_4f2a\r\n",
    "two marks": codecs.BOM_UTF8 * 2 + b"whsec_4f2a",
    "a mark at the end": b"whsec_4f2a" + codecs.BOM_UTF8 + b"\n",
    "UTF-16, little-endian": codecs.BOM_UTF16_LE + "whsec_4f2a\r\n".encode("utf-16-le"),
    "UTF-16, big-endian": codecs.BOM_UTF16_BE + "whsec_4f2a\r\n".encode("utf-16-be"),
    "UTF-32": codecs.BOM_UTF32_LE + "whsec_4f2a".encode("utf-32-le"),
}
REFUSED = {
    "UTF-16 without a mark": "whsec_4f2a".encode("utf-16-le"),
    "a NUL": b"whsec\x00_4f2a",
    "a NUL at the end": b"whsec_4f2a\x00",
    "two lines": b"whsec_4f2a\nwhsec_4f2b\n",
    "a line end of another kind": "whsec\u2028_4f2a".encode(),
    "a tab": b"whsec\t_4f2a",
    "a mark within": "whsec\ufeff_4f2a".encode(),
    "a zero-width space": "whsec\u200b_4f2a".encode(),
    "a soft hyphen": "whsec\u00ad_4f2a".encode(),
    "a no-break space within": "whsec\u00a0_4f2a".encode(),
    "a mark of direction": "\u202awhsec_4f2a\u202c".encode(),
    "double quotes": b'"whsec_4f2a"',
    "single quotes": b"'whsec_4f2a'\n",
    "typographic quotes": "“whsec_4f2a”".encode(),
    "bytes that are no UTF-8": b"whsec_\xff4f2a",
    "half a character of UTF-16": codecs.BOM_UTF16_LE + b"w\x00h",
    "nothing": b"",
    "a mark alone": codecs.BOM_UTF8 + b"\r\n",
}
LOOK_ALIKES = {
    "a Cyrillic e": "whsеc_4f2a",
    "a Greek omicron": "κey-οne-οf-two and οne",
    "full-width digits": "whsec_４f2a",
    "a dash": "whsec–4f2a",
    "one typographic quote": "whsec’4f2a",
    "a ligature": "ﬁrst-secret",
    "a superscript": "whsec²",
}


def read(name: str, environ: dict[str, str]) -> str:
    """One setting, as the service or the sync job reads it."""
    if name in SYNC_SECRETS:
        sync = read_sync_settings(environ)
        return sync.feed_key if name == "OUTCOMES_FEED_KEY" else sync.crm_token
    found = read_settings(environ)
    if name == "FORMANT_WEBHOOK_SECRET":
        return ",".join(found.webhook_secrets)
    attributes = {
        "OUTCOMES_DATABASE_URL": found.database_url,
        "OUTCOMES_API_KEY": found.api_key,
        "FORMANT_API_KEY": found.formant_api_key,
        "OUTCOMES_BI_PASSWORD": found.bi_password,
        "OUTCOMES_OIDC_CLIENT_SECRET": found.oidc_client_secret,
    }
    return attributes[name]


@pytest.mark.parametrize("name", ALL_SECRETS)
@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
def test_whitespace_and_marks_around_a_secret_in_a_file_are_removed(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    assert read(name, {f"{name}_FILE": f"{path}\r\n"}) == SECRET


@pytest.mark.parametrize("name", ALL_SECRETS)
@pytest.mark.parametrize("content", REFUSED.values(), ids=REFUSED)
def test_a_secret_file_with_an_invisible_mistake_is_refused_by_name_and_not_quoted(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"^{name}_FILE") as refused:
        read(name, {f"{name}_FILE": str(path)})
    assert "whsec" not in str(refused.value)
    assert "4f2" not in str(refused.value)


@pytest.mark.parametrize("name", ALL_SECRETS)
def test_the_environment_is_cleaned_like_a_file(name: str) -> None:
    for content in FILES.values():
        text = content.decode("utf-8") if b"\x00" not in content else "\ufeffwhsec_4f2a\r\n"
        assert read(name, {name: text}) == SECRET
    for case, content in REFUSED.items():
        text = content.decode("utf-8", "surrogateescape")  # as Python reads an environment
        if case not in {"nothing", "a mark alone"}:
            with pytest.raises(ConfigurationError, match=f"^{name} takes"):
                read(name, {name: text})


@pytest.mark.parametrize("name", sorted(NAMES.keys() - SECRETS))
def test_every_other_setting_is_cleaned_too(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} takes its value without the quotes"):
        read_settings({name: '"1"'})
    with pytest.raises(ConfigurationError, match=f"^{name} takes visible characters: number 2 is U\\+200B"):
        read_settings({name: "1\u200b1"})


@pytest.mark.parametrize("name", sorted(NAMES.keys() - {"OUTCOMES_REF_COLUMN"}))
def test_a_byte_order_mark_alone_means_the_default(name: str) -> None:
    assert read_settings({name: "\ufeff\r\n"}) == read_settings({})


@pytest.mark.parametrize("name", [name for name in ALL_SECRETS if name != "OUTCOMES_DATABASE_URL"])
@pytest.mark.parametrize("value", LOOK_ALIKES.values(), ids=LOOK_ALIKES)
def test_a_secret_with_a_look_alike_of_ascii_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} takes no look-alikes: character [0-9]+ ") as refused:
        read(name, {name: value})
    assert value not in str(refused.value)


@pytest.mark.parametrize("value", ["kľúč ₹ 🔑", "секрет-key", "p@$$ wörd", "ключ", "日本語", 'a"b', "it's", '"'])
def test_a_secret_in_another_script_is_accepted(value: str) -> None:
    assert clean_secret("FORMANT_WEBHOOK_SECRET", value) == value


@pytest.mark.parametrize("name", sorted(KEYS))
@pytest.mark.parametrize("value", ["kľúč", "Bearer key", "ключ", "key\N{SNOWMAN}"])
def test_a_key_that_a_header_cannot_carry_is_refused(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} takes "):
        read(name, {name: value})


def test_each_of_several_webhook_secrets_is_cleaned() -> None:
    assert read("FORMANT_WEBHOOK_SECRET", {"FORMANT_WEBHOOK_SECRET": "\ufeff new , old\r\n"}) == "new,old"
    for value in ('"new","old"', 'new, "old"', "'new',old"):
        with pytest.raises(ConfigurationError, match=r"^FORMANT_WEBHOOK_SECRET takes its value without the quotes"):
            read("FORMANT_WEBHOOK_SECRET", {"FORMANT_WEBHOOK_SECRET": value})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_targets_file_and_each_secret_in_it_are_cleaned_like_a_setting(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "targets.toml"
    path.write_bytes('[targets.india]\r\nsecrets = [" new ", "\\uFEFFold\\n"]\r\n'.encode(encoding))
    assert read_secrets(path) == {"india": ["new", "old"]}
    assert list(load_targets([], allow_unsigned=False, path=path)) == ["india"]


@pytest.mark.parametrize("secret", [r"whs\u200Bec", r"whs\u0435c", r"whs\nec", r"\"whsec\"", r"\uFEFF"])
def test_a_secret_with_an_invisible_mistake_in_a_targets_file_is_refused(tmp_path: Path, secret: str) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(f'[targets.india]\nsecrets = ["{secret}"]\n')
    with pytest.raises(ConfigurationError, match=r"^OUTCOMES_TARGETS_FILE: targets\.india\.secrets"):
        load_targets(["main"], allow_unsigned=False, path=path)


def test_a_mapping_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    plain = Path("deploy/crm").glob("*.toml")
    for original in plain:
        path = tmp_path / original.name
        path.write_bytes(codecs.BOM_UTF8 + original.read_bytes())
        assert load_mapping(path) == load_mapping(original)


@settings(deadline=None, derandomize=True)
@given(text=st.text(), around=st.text(" \t\r\n\ufeff\u00a0", max_size=4))
def test_an_accepted_value_is_one_visible_line_whatever_surrounds_it(text: str, around: str) -> None:
    for cleaner in (clean, clean_secret, clean_key):
        try:
            value = cleaner("NAME", text)
        except ConfigurationError as error:
            assert str(error).startswith("NAME takes ")  # noqa: PT017 the message is part of the promise
            continue
        assert value.replace(" ", "").isprintable()
        assert value == value.strip("\ufeff \r\n")
        assert cleaner("NAME", around + text + around) == value
        assert cleaner("NAME", value) == value


@settings(deadline=None, derandomize=True)
@given(text=st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: not text.startswith("\ufeff")))
def test_a_file_reads_the_same_in_every_supported_encoding(tmp_path_factory: object, text: str) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "text"  # type: ignore[attr-defined]
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        path.write_bytes(text.encode(encoding))
        assert read_text_file(path) == text
