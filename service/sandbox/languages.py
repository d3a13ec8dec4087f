"""The languages of results: an agent that speaks another language reports what it found out in that language.

The names of results stay: they are set up with the agent. Only text is translated; a value that is not listed is kept.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

Language: TypeAlias = Literal["en", "hi", "pt", "de"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

TRANSLATIONS: Mapping[Language, Mapping[str, str]] = {
    "en": {},
    "hi": {
        "promise_to_pay": "भुगतान का वादा",
        "callback_requested": "फिर कॉल करें",
        "already_paid": "पहले ही भुगतान किया",
        "refused": "मना किया",
        "dispute": "विवाद",
        "wrong_number": "गलत नंबर",
        "do_not_call": "कॉल न करें",
        "unclear": "अस्पष्ट",
        "positive": "सकारात्मक",
        "neutral": "तटस्थ",
        "negative": "नकारात्मक",
    },
    "pt": {
        "promise_to_pay": "Promessa de pagamento",
        "callback_requested": "Ligar mais tarde",
        "already_paid": "Já pagou",
        "refused": "Recusou",
        "dispute": "Contestação",
        "wrong_number": "Número errado",
        "do_not_call": "Não ligar",
        "unclear": "Indefinido: ligação ruim",
        "positive": "positivo",
        "neutral": "neutro",
        "negative": "negativo",
    },
    "de": {
        "promise_to_pay": "Zahlung zugesagt",
        "callback_requested": "Rückruf gewünscht",
        "already_paid": "Bereits überwiesen",
        "refused": "Verweigert",
        "dispute": "Forderung über „zu viel“ bestritten",
        "wrong_number": "Falscher Anschluß",
        "do_not_call": "Nicht mehr anrufen",
        "unclear": "Unverständlich",
        "positive": "freundlich",
        "neutral": "sachlich",
        "negative": "verärgert",
    },
}


def translate(results: dict[str, Any], language: Language) -> dict[str, Any]:
    """Results with their text in a language."""
    words = TRANSLATIONS[language]
    return {name: words.get(value, value) if isinstance(value, str) else value for name, value in results.items()}
