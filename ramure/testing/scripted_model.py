"""A scripted model: a server on this host that speaks OpenAI's chat completions and says what a script tells it.

pi talks to it as to any provider::

    async with ScriptedModel([ToolCall("finish", {"summary": "all green"}), Text("Done.")]) as model:
        environment = model.write_config(directory)     # what pi is started with
        ...
    assert model.requests[0].conversation.last_user_text == "Run the tests."

Each request of a conversation gets the script's next turn. As a process of its own, which lives on when the program
under test is killed: ``python -m ramure.testing.scripted_model --help``.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from concurrent.futures import Future
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from ramure.errors import UsageError
from ramure.testing import completions
from ramure.testing.http1 import HttpRequest, Responder, http_server
from ramure.testing.pi_config import MODELS, model_reference, private_opener, provider_entry, write_pi_config
from ramure.testing.scripts import Script, ScriptError, ScriptPlayer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from ramure.testing.conversation import Conversation
    from ramure.testing.steps import Turn

__all__ = ["ModelRequest", "Outcome", "ScriptedModel"]

Outcome = Literal["underway", "served", "refused", "cut", "client gone", "server closed", "script failed"]


class ModelRequest:
    """One request that the model got: its conversation, the turn it was answered with, and how that went.

    ``outcome`` is ``underway``, then one of ``served``; ``refused`` (an HTTPError step); ``cut`` (a DropConnection
    step); ``client gone`` (it left before the end); ``server closed`` (the model was closed meanwhile);
    ``script failed``. ``at`` is the Unix time of its arrival.
    """

    def __init__(self, number: int, conversation: Conversation) -> None:
        self.number = number
        self.conversation = conversation
        self.turn: Turn = ()
        self.at: float = time.time()
        self.outcome: Outcome = "underway"
        self._ended: Future[Outcome] = Future()

    async def ended(self, timeout: float = 10.0) -> Outcome:
        """Wait, up to ``timeout`` seconds, until the request is over. Raises :class:`TimeoutError`."""
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(self._ended)), timeout)

    def end(self, outcome: Outcome) -> None:
        """For whoever answers it: it is over."""
        self.outcome = outcome
        self._ended.set_result(outcome)

    def __repr__(self) -> str:
        return f"<ModelRequest {self.number}: {self.conversation.last_user_text[:60]!r}, {self.outcome}>"


class ScriptedModel:
    """A model server whose replies are ``script``: a list of turns, a function of the conversation, or a dict of
    these by what the conversation begins with (see :data:`~ramure.testing.scripts.Script`).

    ``models`` are the model ids it offers; ``key`` tells conversations apart (see
    :class:`~ramure.testing.scripts.ScriptPlayer`); ``record`` is a file that gets one JSON line for each request.

    Use it as ``async with`` (on this event loop) or ``with model.serve_in_thread()``. When the block ends, a request
    that the script had no answer to is raised as :class:`ScriptError`, unless another exception is on its way;
    ``errors`` holds them, and a test that expects one clears it.
    """

    def __init__(
        self,
        script: Script,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        models: Sequence[str] = MODELS,
        key: Callable[[Mapping[str, Any]], str] | None = None,
        record: Path | None = None,
    ) -> None:
        self.models: tuple[str, ...] = tuple(models)
        self.requests: list[ModelRequest] = []
        self.errors: list[Exception] = []
        self._player = ScriptPlayer(script, key)
        self._host, self._port = host, port
        self._record = record
        self._address: tuple[str, int] | None = None
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, Future[None]]] = []
        self._running = AsyncExitStack()
        self._call_prefix = secrets.token_hex(4)
        self._calls = 0

    # -- what a client needs

    @property
    def base_url(self) -> str:
        """What pi's ``baseUrl`` is set to. Raises :class:`UsageError` when the model is not being served."""
        if self._address is None:
            raise UsageError("the scripted model is not up; use it in `async with`, or `with model.serve_in_thread()`")
        return f"http://{self._address[0]}:{self._address[1]}/v1"

    @property
    def model(self) -> str:
        """The first model as pi names it (``provider/id``), for ``--model`` and ``agent(model=)``."""
        return model_reference(self.models[0])

    def provider(self) -> dict[str, Any]:
        """The provider's entry: ``{"providers": {"scripted": model.provider()}}`` is a ``models.json`` for pi."""
        return provider_entry(self.base_url, self.models)

    def write_config(self, directory: str | Path, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
        """Make ``directory`` an agent directory for pi whose default model is this one.

        Writes ``models.json`` and ``settings.json`` (with ``settings`` added), mode 0600, in a directory of mode 0700.
        Returns the environment variables to start pi with.
        """
        return write_pi_config(Path(directory), self.provider(), self.models[0], settings or {})

    # -- what a test needs

    async def wait_for_requests(self, count: int, timeout: float = 10.0) -> list[ModelRequest]:
        """Wait until ``count`` requests have come in all; return them. Raises :class:`TimeoutError`."""
        arrived = asyncio.wrap_future(self._when(count))
        try:
            await asyncio.wait_for(arrived, timeout)
        except TimeoutError:
            raise TimeoutError(self._too_few(count, timeout)) from None
        return self.requests[:count]

    def wait_for_requests_sync(self, count: int, timeout: float = 10.0) -> list[ModelRequest]:
        """As :meth:`wait_for_requests`, blocking: for a model that is served in a thread."""
        try:
            self._when(count).result(timeout)
        except TimeoutError:
            raise TimeoutError(self._too_few(count, timeout)) from None
        return self.requests[:count]

    # -- running

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()
        if error is None:
            self.raise_errors()

    @contextmanager
    def serve_in_thread(self) -> Iterator[ScriptedModel]:
        """Serve from a thread of its own while the block runs, whatever this thread does meanwhile."""
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

        async def serve() -> None:
            try:
                await self._open()
            except (OSError, UsageError) as error:
                started.set_exception(error)
                return
            stop = asyncio.Event()
            started.set_result((asyncio.get_running_loop(), stop))
            await stop.wait()
            await self._close()

        thread = threading.Thread(target=lambda: asyncio.run(serve()), name="scripted model", daemon=True)
        thread.start()
        loop, stop = started.result(timeout=10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(timeout=10)
        self.raise_errors()

    def raise_errors(self) -> None:
        """Raise the first of ``errors``, if there is one; the others are its notes."""
        if self.errors:
            first, *others = self.errors
            for other in others:
                first.add_note(f"also: {other}")
            raise first

    async def _open(self) -> None:
        if self._address is not None:
            raise UsageError("the scripted model is up already")
        server = await self._running.enter_async_context(
            http_server(self._answer, self.errors.append, self._host, self._port)
        )
        self._address = server.address

    async def _close(self) -> None:
        self._address = None
        await self._running.aclose()

    # -- answering

    async def _answer(self, request: HttpRequest, responder: Responder) -> None:
        path = request.path.partition("?")[0].rstrip("/")
        if path.endswith("/chat/completions") and request.method == "POST":
            await self._answer_completion(request, responder)
        elif path.endswith("/models") and request.method == "GET":
            entries = [{"id": name, "object": "model", "owned_by": "scripted"} for name in self.models]
            await responder.reply(200, json.dumps({"object": "list", "data": entries}).encode())
        else:
            text = f"the scripted model does not know {request.method} {request.path}; only POST .../chat/completions"
            self.errors.append(ScriptError(text))
            await responder.reply(404, completions.error_body(text, "not_found"))

    async def _answer_completion(self, request: HttpRequest, responder: Responder) -> None:
        try:
            body = json.loads(request.body)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            text = f"the body of a request is no JSON object: {request.body[:200]!r}"
            self.errors.append(ScriptError(text))
            await responder.reply(400, completions.error_body(text, "invalid_request"))
            return
        session = request.headers.get("x-session-affinity") or request.headers.get("session_id", "")
        await self._complete(self._arrived(self._player.converse(body, session)), responder)

    def _arrived(self, conversation: Conversation) -> ModelRequest:
        with self._lock:
            request = ModelRequest(len(self.requests) + 1, conversation)
            self.requests.append(request)
            due = [future for count, future in self._waiting if count <= len(self.requests)]
            self._waiting = [(count, future) for count, future in self._waiting if count > len(self.requests)]
        for future in due:
            if future.set_running_or_notify_cancel():
                future.set_result(None)
        self._write_record({"event": "request", "number": request.number, "at": request.at, "body": conversation.body})
        return request

    async def _complete(self, request: ModelRequest, responder: Responder) -> None:
        outcome: Outcome = "server closed"
        try:
            request.turn = await self._player.next_turn(request.conversation)
            outcome = await self._play(request, responder)
        except asyncio.CancelledError:
            outcome = "client gone" if responder.client_gone else "server closed"
            raise
        except ConnectionError:
            outcome = "client gone"
        except ScriptError as error:
            outcome = "script failed"
            self.errors.append(error)
            # A status that neither pi nor ramure tries again: the script would not know more the next time.
            await responder.reply(400, completions.error_body(str(error), "script"))
        finally:
            request.end(outcome)
            self._write_record({"event": "end", "number": request.number, "outcome": outcome})

    async def _play(self, request: ModelRequest, responder: Responder) -> Outcome:
        body = request.conversation.body
        streaming = bool(body.get("stream"))
        chunks: list[dict[str, Any]] = []
        for action in completions.render(
            request.turn,
            completion_id=f"chatcmpl-{self._call_prefix}-{request.number}",
            model=request.conversation.model or self.models[0],
            created=int(request.at),
            call_id=self._new_call_id,
        ):
            match action:
                case completions.Chunk(data):
                    if streaming:
                        await self._begin(responder)
                        await responder.send(completions.sse(data))
                    chunks.append(data)
                case completions.Pause(seconds):
                    await asyncio.sleep(seconds)
                case completions.Refuse(error):
                    headers = {} if error.retry else {"x-should-retry": "false"}
                    if error.retry_after is not None:
                        headers["Retry-After"] = f"{error.retry_after:g}"
                    await responder.reply(error.status, completions.error_body(error.message, "scripted"), headers)
                    return "refused"
                case completions.Cut():
                    responder.cut()
                    return "cut"
                case completions.Open():
                    if streaming:
                        await self._begin(responder)
                    await asyncio.Event().wait()
        if streaming:
            await responder.send(b"data: [DONE]\n\n")
            await responder.finish()
        else:
            await responder.reply(200, json.dumps(completions.whole(chunks)).encode())
        return "served"

    async def _begin(self, responder: Responder) -> None:
        if not responder.started:
            await responder.start(200, {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})

    def _new_call_id(self) -> str:
        self._calls += 1
        return f"call_{self._call_prefix}_{self._calls}"

    def _when(self, count: int) -> Future[None]:
        future: Future[None] = Future()
        with self._lock:
            if count <= len(self.requests):
                future.set_result(None)
            else:
                self._waiting.append((count, future))
        return future

    def _too_few(self, count: int, timeout: float) -> str:
        return f"{len(self.requests)} of {count} requests came within {timeout:g} s: {self.requests}"

    def _write_record(self, line: dict[str, Any]) -> None:
        if self._record is not None:
            # 0600: what agents say to their model is nobody else's business.
            with open(self._record, "a", encoding="utf-8", opener=private_opener) as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    from ramure.testing.model_process import main

    main()
