"""What a model's error means: does asking again help, and what is to be done. Pure: text in, data out.

pi reports an error of a provider as one text (``errorMessage``), which holds the provider's own words, as a rule the HTTP
status, and at times nothing else. :func:`classify` reads it by the tables below, in this order: words that only one cause
has, the HTTP status, the provider's type of error (streams have no status), words of transports. What none of them
knows is transient: asking again is bounded by ``agent(retry_for=)``, and giving up is not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from ramure.agents.models.words import http_status, retry_after
from ramure.agents.pi.toolchain.models import variables_of

__all__ = ["Cause", "Kind", "ModelFailure", "classify", "remedy_for"]

Kind = Literal["permanent", "transient", "aborted"]
"""Whether asking again can help; ``aborted``: the request was ended from our side, and the model has not failed."""

Cause = Literal[
    "aborted",
    "authentication",
    "billing",
    "permission",
    "not_found",
    "invalid_request",
    "overflow",
    "refused",
    "configuration",
    "memory",
    "no_model",
    "not_started",
    "rate_limit",
    "overloaded",
    "server",
    "network",
    "cut_stream",
    "unknown",
]

KINDS: Final[dict[Cause, Kind]] = {
    "aborted": "aborted",
    "authentication": "permanent",
    "billing": "permanent",
    "permission": "permanent",
    "not_found": "permanent",
    "invalid_request": "permanent",
    "overflow": "permanent",
    "refused": "permanent",
    "configuration": "permanent",
    "memory": "permanent",
    "no_model": "permanent",
    "not_started": "permanent",
    "rate_limit": "transient",
    "overloaded": "transient",
    "server": "transient",
    "network": "transient",
    "cut_stream": "transient",
    "unknown": "transient",
}


@dataclass(frozen=True, slots=True)
class ModelFailure:
    """What one error of a model means."""

    kind: Kind
    cause: Cause
    text: str
    """The provider's words, as pi reports them."""
    status: int | None
    """The HTTP status, where the words have one."""
    retry_after: float | None
    """Seconds that the provider asks to wait, where the words say so."""


def classify(text: str) -> ModelFailure:
    """What an error with these words means."""
    status = http_status(text)
    wait = retry_after(text)
    cause = _cause(text, status, wait)
    return ModelFailure(KINDS[cause], cause, text, status, wait)


def _cause(text: str, status: int | None, wait: float | None) -> Cause:
    for pattern, cause in _CERTAIN:
        if pattern.search(text):
            return cause
    if _QUOTA.search(text) and not (wait is not None or _LATER.search(text)):
        return "billing"
    if status is not None and (status not in _VAGUE or _THROTTLED.search(text) is None):
        return _of_status(status)
    for pattern, cause in _TYPES:
        if pattern.search(text):
            return cause
    return "unknown" if status is None else _of_status(status)


# -- words that only one cause has --------------------------------------------------------------------------


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


_CERTAIN: Final[tuple[tuple[re.Pattern[str], Cause], ...]] = (
    (_any(r"^\W*(the|this )?\W*(request|operation)( was|) aborted\W*$", r"^\W*aborted\W*$"), "aborted"),
    # Limits that no wait within reason lifts. Google sends a short retryDelay with its limits of a day too.
    (
        _any(
            r"insufficient[_ ]quota",
            r"insufficient (credits?|balance|funds)",
            r"credit balance is too low",
            r"credit[_ ]balance[_ ]exhausted",
            r"billing[_ ]hard[_ ]limit",
            r"billing_error",
            r"billing_not_active",
            r"(spend|spending)[_ ]limit[_ ](exceeded|reached)",
            r"requires more credits",
            r"out of budget",
            r"budget has been exceeded",
            r"key limit exceeded",
            r"(monthly|weekly) usage limit reached",
            r"usage_not_included",
            r"(Go|Free)UsageLimitError",
            r"subscription_sharing_workplace_individual_usage_limit_exceeded",
            r"\bper[_ ]?day\b",
            r"PerDay",
            r"\blimit: 0\b",
            r'"code"\s*:\s*"?1113(?!\d)',
        ),
        "billing",
    ),
    (
        _any(
            r"prompt (is )?too long",
            r"prompt exceeds max length",
            r"request_too_large",
            r"input is too long for requested model",
            r"exceeds? (the )?(model'?s )?(context window|available context size|maximum context length)",
            r"context window exceed",
            r"model_context_window_exceeded",
            r"input token count.*exceeds the maximum",
            r"maximum (prompt|context) length is \d+",
            r"reduce the length of the messages",
            r"maximum allowed input length",
            r"longer than the model'?s context length",
            r"prompt token count of \d+ exceeds the limit",
            r"greater than the context length",
            r"exceeded model token limit",
            r"too large for model with \d+ maximum context length",
            r"configured context size is",
            r"range of input length should be",
            r"context[_ ]length[_ ]exceeded",
            r"token limit exceeded",
        ),
        "overflow",
    ),
    (
        _any(
            r"finish_reason: content_filter",
            r"content_policy_violation",
            r"ResponsibleAIPolicyViolation",
            r"content management policy",
            r"the model refused to complete",
            r"stopped with: (sensitive|guardrail_intervened|content_filtered|refusal|safety)",
            r"(finish|block) ?reason: (SAFETY|PROHIBITED_CONTENT|BLOCKLIST|SPII|RECITATION|OTHER)",
            r"PROHIBITED_CONTENT",
            r"requires moderation",
            r"input was flagged",
        ),
        "refused",
    ),
    (
        _any(
            r"no api key (found )?for",
            r"could not load credentials",
            r"invalid[_ ]api[_ ]key",
            r"incorrect api key",
            r"invalid x-api-key",
            r"api key not valid",
            r"api_key_invalid",
            r"api key expired",
            r"(token|session|credentials?) (has |have |is |are )?expired",
            r"security token .{0,40}(expired|invalid)",
            r"(ExpiredToken|UnrecognizedClient|InvalidSignature|InvalidClientTokenId)(Exception)?\b",
            r"invalid_grant",
            r"failed to refresh .{0,40}token",
            r"no account id in token",
            r"account (has been |is )?(deactivated|disabled|suspended)",
            r"organization has been disabled",
        ),
        "authentication",
    ),
    (
        _any(
            r"(self-signed|self signed) certificate",
            r"unable to (verify the first|get local issuer) certificate",
            r"\bCERT_[A-Z_]+",
            r"certificate has expired",
            r"UNABLE_TO_VERIFY_LEAF_SIGNATURE",
            r"ERR_TLS_CERT_ALTNAME_INVALID",
            r"(invalid|failed to parse) url",
            r"ERR_INVALID_URL",
            r"unsupported protocol",
            r"invalid header value",
            r"cannot convert argument to a bytestring",
            r"\b407\b.{0,40}proxy",
            r"proxy authentication required",
            r"unknown (api|provider)\b",
            r"no api provider registered",
        ),
        "configuration",
    ),
    (_any(r"requires more (system )?memory", r"insufficient (system )?(memory|resources) to load"), "memory"),
    (
        _any(
            r"no (models? (selected|available|loaded)|model is loaded)",
            r"model_not_found",
            r"model_not_supported",
            r"DeploymentNotFound",
            r"no endpoints found",
            r"try pulling it first",
            r"is not a valid model id",
            r"(model|engine) .{0,120}(does not exist|is not found|was not found|has been deprecated|been retired)",
            r"models/\S+ is not found",
            r"on-demand throughput isn.t supported",
            r"provided model identifier is invalid",
        ),
        "not_found",
    ),
)

_QUOTA: Final = _any(r"exceeded your current quota", r"quota (has been )?exceeded", r"\bbilling\b", r"usage limit")
"""Limits that are lifted by paying or by waiting; which of them, the rest of the words says."""

_LATER: Final = _any(r"(try|retry) (it |again )?(again )?(later|in\b|after\b|at\b)", r"retryDelay", r"in_flight_budget")
"""The provider expects us again."""

_VAGUE: Final = frozenset({400, 402, 403})
"""Statuses with which some providers throttle, which their words then say."""

_THROTTLED: Final = _any(r"rate.?limit", r"too many requests", r"throttl", r"overloaded", r"in_flight_budget")


# -- statuses -----------------------------------------------------------------------------------------------

_STATUSES: Final[dict[int, Cause]] = {
    401: "authentication",
    402: "billing",
    403: "permission",
    404: "not_found",
    405: "configuration",
    407: "configuration",
    408: "network",
    409: "server",
    410: "not_found",
    413: "overflow",
    418: "unknown",
    421: "network",
    423: "server",
    424: "server",
    425: "overloaded",
    429: "rate_limit",
    451: "permission",
    498: "overloaded",
    499: "network",
    501: "invalid_request",
    503: "overloaded",
    505: "configuration",
    511: "configuration",
    529: "overloaded",
}


def _of_status(status: int) -> Cause:
    return _STATUSES.get(status) or ("server" if status >= 500 else "invalid_request")


# -- types of errors, and words of transports -----------------------------------------------------------------

_TYPES: Final[tuple[tuple[re.Pattern[str], Cause], ...]] = (
    (
        _any(r"overloaded", r"at capacity", r"high demand", r"server.?busy", r"currently busy", r"ModelNotReady"),
        "overloaded",
    ),
    (
        _any(
            r"rate.?limit",
            r"too many (requests|tokens)",
            r"throttl",
            r"resource.?(has been )?.?exhausted",
            r"quota",
            r"usage limit",
        ),
        "rate_limit",
    ),
    (
        _any(r"authentication_error", r"\bUNAUTHENTICATED\b", r"\bunauthorized\b", r"unauthorizedexception"),
        "authentication",
    ),
    (
        _any(r"permission_error", r"\bPERMISSION_DENIED\b", r"AccessDenied", r"\bforbidden\b", r"unsupported_country"),
        "permission",
    ),
    (_any(r"not_found_error", r"ResourceNotFound", r'"status"\s*:\s*"NOT_FOUND"'), "not_found"),
    (
        _any(
            r"invalid_request_error",
            r"^validation error",
            r"ValidationException",
            r"\bINVALID_ARGUMENT\b",
            r"\bFAILED_PRECONDITION\b",
            r"^invalid_prompt\b",
            r"^incomplete: ",
        ),
        "invalid_request",
    ),
    (
        _any(
            r"terminated",
            r"premature",
            r"ended (without|before)",
            r"stream (was interrupted|disconnected|closed|error)",
            r"closed before",
            r"cut short",
            r"unexpected end of",
            r"unfinished tool call",
            r"could not parse .{0,30} event",
            r"ModelStreamError",
            r"incomplete chunked",
            r"ERR_HTTP2_STREAM",
            r"http/?2 (stream|request)",
        ),
        "cut_stream",
    ),
    (
        _any(
            r"\bE(CONNREFUSED|CONNRESET|CONNABORTED|TIMEDOUT|PIPE|HOSTUNREACH|NETUNREACH|NETDOWN|ADDRNOTAVAIL|PROTO)\b",
            r"\bENOTFOUND\b",
            r"\bEAI_[A-Z]+",
            r"getaddrinfo",
            r"fetch failed",
            r"socket hang up",
            r"other side closed",
            r"socket .{0,12}disconnected",
            r"connection.{0,12}(error|refused|lost|closed|reset|aborted|timed)",
            r"network.?(error|is unreachable|connection)",
            r"time[d]?.?out",
            r"\bDEADLINE_EXCEEDED\b",
            r"websocket",
            r"upstream.?(connect|request|stream)",
            r"reset before headers",
            r"\bUND_ERR_[A-Z_]+",
            r"request to \S+ failed",
            r"(tls|ssl).{0,30}(handshake|alert|disconnected)",
        ),
        "network",
    ),
    (
        _any(
            r"api_error",
            r"(server|internal|provider returned).{0,4}error",
            r"\bINTERNAL\b",
            r"unavailable",
            r"bad gateway",
            r"finish_reason: error",
            r"try (your request |it )?again",
            r"retry your request",
        ),
        "server",
    ),
)


# -- what to do about it ------------------------------------------------------------------------------------

_REMEDIES: Final[dict[Cause, str]] = {
    "authentication": "{key}, or log in with pi's /login",
    "billing": "add credit or raise the limit at {provider}, or choose another model with model={now}",
    "permission": "ask for access with this key, or choose another model with model={now}",
    "not_found": "choose a model that exists with model={now}; `pi --list-models` shows them",
    "invalid_request": "the provider's words say what it refuses; another model may take it: model={now}",
    "overflow": "split the task, give it less to read, or choose a model with a larger context: model={now}",
    "refused": "word the task in another way, or choose another model with model={now}",
    "configuration": "check the baseUrl of {provider} in pi's models.json, its certificate, and the proxy settings",
    "memory": "free memory where the model runs, or choose a smaller one with model={now}",
    "no_model": "pass model=, set a default model in pi's settings.json, or log in with pi's /login",
    "not_started": "look at its screen with `ramure connect`: often it is the login (/login) or the model (model=)",
}
_WAIT_LONGER: Final = "wait longer with agent(retry_for=), or choose another model with model={now}"


def remedy_for(cause: Cause, model: str | None) -> str:
    """What to do about an error. ``model``: ``provider/id``, as pi names it."""
    provider = (model or "").partition("/")[0]
    ways = variables_of(provider)[:2]
    return _REMEDIES.get(cause, _WAIT_LONGER).format(
        key=f"set {' or '.join(ways)}" if ways else f"check the key of {provider or 'its provider'}",
        provider=provider or "the provider",
        now=f" (now {model})" if model else "",
    )
