"""What a provider's words mean: the table of errors that providers, gateways, local servers and networks are known for."""

from __future__ import annotations

import re

import pytest

from ramure.agents.models.errors import KINDS, classify, remedy_for
from ramure.agents.models.words import brief, http_status, retry_after

PERMANENT = {
    "authentication": [
        '401 {"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"},"request_id":"req_429"}',
        "401 Incorrect API key provided: sk-proj-****. You can find your API key at https://platform.openai.com.",
        '{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}',
        'OpenAI API error (401): {"message":"Unauthorized"}',
        '{"type":"error","error":{"type":"authentication_error","message":"OAuth token has expired."}}',
        "UnrecognizedClientException: The security token included in the request is invalid.",
        "ExpiredTokenException: The security token included in the request is expired",
        "Could not load credentials from any providers",
        "No API key for provider: openai",
        "No API key found for anthropic.\n\nUse /login to log into a provider via OAuth or API key.",
        'Mistral API error (401): {"detail":"Unauthorized"}',
        '401: {"message":"User not found.","code":401}',
        "401 status code (no body)",
        "invalid_grant: Token has been expired or revoked.",
    ],
    "billing": [
        '402 {"error":{"message":"Insufficient credits. Add more using https://openrouter.ai/credits","code":402}}',
        "402 This request requires more credits, or fewer max_tokens.",
        '400 {"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access '
        'the Anthropic API. Please go to Plans & Billing."}}',
        "429 You exceeded your current quota, please check your plan and billing details.",
        '429: {"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}',
        "insufficient_quota: You exceeded your current quota. Please try again later.",
        "429 Quota exceeded for metric: generate_requests_per_model_per_day, limit: 0",
        '{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","details":[{"quotaId":"GenerateRequestsPerDayPerProject'
        'PerModel-FreeTier"},{"retryDelay":"34s"}]}}',
        "429 Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day",
        "403 Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys",
        "429 Monthly usage limit reached. Enable usage from your available balance.",
        "400 litellm.BudgetExceededError: Budget has been exceeded! Current cost: 10.2, Max budget: 10",
        "429 billing_hard_limit_reached",
    ],
    "permission": [
        '403 {"type":"error","error":{"type":"permission_error","message":"Your API key cannot use this resource."}}',
        "AccessDeniedException: You don't have access to the model with the specified model ID.",
        "403 Country, region, or territory not supported",
        "permission_error: not allowed",
    ],
    "not_found": [
        '404 {"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}}',
        "404 The model `gpt-9` does not exist or you do not have access to it.",
        "404 model 'qwen9' not found, try pulling it first",
        '404: {"object":"error","message":"The model `x` does not exist.","type":"NotFoundError"}',
        "404 No endpoints found for nobody/nothing.",
        "400 nobody/nothing is not a valid model ID",
        "400 The requested model is not supported. (model_not_supported)",
        "404 status code (no body)",
        "400 No models loaded. Please load a model in the developer page or use the `lms load` command.",
        "Validation error: Invocation of model ID x with on-demand throughput isn't supported.",
        '{"error":{"code":404,"message":"models/gemini-9 is not found for API version v1beta","status":"NOT_FOUND"}}',
        "ResourceNotFoundException: Could not resolve the foundation model",
    ],
    "invalid_request": [
        '400 {"type":"error","error":{"type":"invalid_request_error","message":"messages: roles must alternate"}}',
        "422 Unprocessable Entity",
        '422: {"detail":[{"loc":["body"],"msg":"field required"}]}',
        "400 Invalid schema for function 'finish'",
        "Validation error: The model returned the following errors: tools.0: bad",
        '{"error":{"code":400,"message":"Invalid argument","status":"INVALID_ARGUMENT"}}',
        "501 Not Implemented",
    ],
    "overflow": [
        "400 prompt is too long: 213462 tokens > 200000 maximum",
        "400 This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.",
        '413 {"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}',
        "413 Payload Too Large",
        "400 the request exceeds the available context size (8192 tokens), try increasing it",
        "context_length_exceeded: Your input exceeds the context window of this model.",
        "Validation error: Input is too long for requested model.",
        '{"error":{"code":400,"message":"The input token count (1196265) exceeds the maximum number of tokens"}}',
        "400 Trying to keep the first 9000 tokens ... greater than the context length of 4096",
    ],
    "refused": [
        "Provider finish_reason: content_filter",
        "The model refused to complete the request",
        "Provider stopped with: sensitive",
        "403 Your chosen model requires moderation and your input was flagged",
        "400 The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
    ],
    "configuration": [
        "Connection error.: self-signed certificate in certificate chain (SELF_SIGNED_CERT_IN_CHAIN)",
        "fetch failed: unable to verify the first certificate",
        "Failed to parse URL from localhost:11434/v1/chat/completions",
        "407 Proxy Authentication Required",
        'Headers.append: "Bearer x\n" is an invalid header value.',
        "405 Method Not Allowed",
    ],
    "memory": ["500 model requires more system memory (5.6 GiB) than is available (3.3 GiB)"],
}

TRANSIENT = {
    "rate_limit": [
        "429 scripted error",
        '429 {"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your limit"}}',
        "429 Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000. Please try again in 1.226s.",
        '{"error":{"code":429,"message":"Resource has been exhausted (e.g. check quota).","status":"RESOURCE_EXHAUSTED"}}',
        "429 You exceeded your current quota, please check your plan and billing details. Please retry in 34.07s.",
        "Throttling error: Too many tokens, please wait before trying again.",
        "ThrottlingException: Rate exceeded",
        "Error Code rate_limit_exceeded: Rate limit reached",
        "429 usage allocated quota exceeded. please try again later.",
        "You have hit your ChatGPT usage limit (plus plan). Try again in ~53 min.",
        "403 You have exceeded a secondary rate limit. Please wait a few minutes.",
        "402 Request was throttled: openrouter_in_flight_budget",
        "429 status code (no body)",
    ],
    "overloaded": [
        '529 {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
        '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
        "503 Loading model",
        "503 server busy, please try again. maximum pending requests exceeded",
        '{"error":{"code":503,"message":"The model is overloaded. Please try again later.","status":"UNAVAILABLE"}}',
        "ModelNotReadyException: Model is not ready for inference. Wait and try your request again.",
    ],
    "server": [
        "500 scripted error",
        '500 {"type":"error","error":{"type":"api_error","message":"Internal server error"}}',
        "502 Bad Gateway",
        "504 Gateway Timeout",
        "520 status code (no body)",
        "server_error: The server had an error processing your request.",
        "Internal server error: The system encountered an unexpected error during processing. Try your request again.",
        "502 Provider returned error",
        "Provider returned error",
        "409 Conflict",
        '{"type":"error","error":{"type":"api_error","message":"Something went wrong"}}',
        "500 llama runner process has terminated: signal: killed",
    ],
    "network": [
        "Provider finish_reason: network_error",
        "Connection error.",
        "Connection error.: connect ECONNREFUSED 127.0.0.1:11434",
        "fetch failed: getaddrinfo ENOTFOUND api.nowhere.invalid",
        "getaddrinfo EAI_AGAIN api.anthropic.com",
        "read ECONNRESET",
        "connect ETIMEDOUT 1.2.3.4:443",
        "fetch failed",
        "socket hang up",
        "other side closed",
        "Request timed out.",
        "The operation was aborted due to timeout",
        "408 Request Timeout",
        "Client network socket disconnected before secure TLS connection was established",
        "Unable to connect. Connection refused",
        "request to https://oauth2.googleapis.com/token failed, reason: ",
        "WebSocket closed 1006",
    ],
    "cut_stream": [
        "terminated",
        "Stream ended without finish_reason",
        "Anthropic stream ended before message_stop",
        "OpenAI Responses stream ended before a terminal response event",
        "Premature close",
        "Model stream error: stream failed",
        "stream disconnected before completion: stream closed before response.completed",
        "Unexpected end of JSON input",
        "http2 request did not get a response",
    ],
    "unknown": ["The frobnicator is askew", "An unknown error occurred", "???", ""],
}

CASES = [
    pytest.param(kind, cause, text, id=re.sub(r"\W+", "-", f"{cause}-{text[:40]}"))
    for kind, table in (("permanent", PERMANENT), ("transient", TRANSIENT))
    for cause, texts in table.items()
    for text in texts
]


@pytest.mark.parametrize(("kind", "cause", "text"), CASES)
def test_the_words_of_a_provider_say_whether_asking_again_helps(kind: str, cause: str, text: str) -> None:
    failure = classify(text)
    assert (failure.kind, failure.cause) == (kind, cause)
    assert failure.text == text


@pytest.mark.parametrize(
    "text",
    [
        "Request was aborted.",
        "Request was aborted",
        "This operation was aborted",
        "The operation was aborted",
        "aborted",
    ],
)
def test_an_abort_of_ours_is_no_failure_of_the_model(text: str) -> None:
    assert classify(text).kind == "aborted"


@pytest.mark.parametrize("status", range(400, 600))
def test_every_status_is_permanent_or_transient_wherever_it_stands(status: int) -> None:
    transient = status in (408, 409, 418, 421, 423, 424, 425, 429, 498, 499) or (
        status >= 500 and status not in (501, 505, 511)
    )
    for text in (
        f"{status} words",
        f"OpenAI API error ({status}): words",
        f'{{"error":{{"code":{status}}}}}',
        f"got status: {status}.",
    ):
        failure = classify(text)
        assert failure.status == status
        assert failure.kind == ("transient" if transient else "permanent"), text


@pytest.mark.parametrize(
    "text",
    ["request req_429 failed", "took 500 ms", "port 4043", "at line 404: fetch failed", "sent 503 bytes, fetch failed"],
)
def test_a_number_that_is_no_status_is_not_taken_for_one(text: str) -> None:
    assert http_status(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please try again in 1.226s.", 1.226),
        ("Please try again in 250ms", 0.25),
        ("Please try again in 6m0s. Visit", 360),
        ("try again in 1h2m3s", 3723),
        ('"retryDelay": "34s"', 34),
        ("Please retry in 34.074824224s.", 34.074824224),
        ("Server requested 120s retry delay (max: 60s). 429 slow down", 120),
        ("Try again in ~53 min.", 53 * 60),
        ("Retry-After: 20", 20),
        ("retry_after_seconds=7", 7),
        ("Rate limited. Please retry after 2 seconds.", 2),
        ("Limit resets in 2 days", 172800),
        ("429 slow down", None),
        ("the model answered in 3 s", None),
        ("retry", None),
    ],
)
def test_the_wait_that_a_provider_asks_for_is_read_from_its_words(text: str, seconds: float | None) -> None:
    assert retry_after(text) == (pytest.approx(seconds) if seconds is not None else None)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            '402 {"error":{"message":"Insufficient credits.\\nAdd more","code":402}}',
            "402 Insufficient credits. Add more",
        ),
        ('OpenAI API error (401): {"message":"Unauthorized"}', "OpenAI API error (401) Unauthorized"),
        ('{"error":{"code":429,"message":"Slow down","status":"RESOURCE_EXHAUSTED"}}', "429 Slow down"),
        (
            '401 {"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}',
            "401 invalid x-api-key",
        ),
        ("400 {broken", "400 {broken"),
        ("two\n\nlines", "two lines"),
        ("x" * 1000, "x" * 299 + "…"),
    ],
)
def test_in_a_line_a_provider_s_words_are_its_message(text: str, line: str) -> None:
    assert brief(text) == line


def test_each_remedy_says_what_can_be_done_for_this_provider() -> None:
    for cause in KINDS:
        for model in (None, "anthropic/claude-9", "scripted/m1", "amazon-bedrock/x", "odd"):
            assert remedy_for(cause, model)
    assert remedy_for("authentication", "anthropic/claude-9").startswith("set ANTHROPIC_API_KEY or ")
    assert remedy_for("authentication", "scripted/m1") == "check the key of scripted, or log in with pi's /login"
    assert "model= (now anthropic/claude-9)" in remedy_for("not_found", "anthropic/claude-9")
    assert "openrouter" in remedy_for("billing", "openrouter/x/y")
    assert "retry_for=" in remedy_for("rate_limit", None)
