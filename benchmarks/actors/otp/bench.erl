%% The same rows in Erlang/OTP, with gen_server. Prints one line of JSON.
-module(bench).
-behaviour(gen_server).
-export([main/0, init/1, handle_call/3, handle_cast/2, handle_info/2]).

init(State) -> {ok, State}.
handle_call(Request, _From, State) -> {reply, Request, State}.
handle_cast(_, State) -> {noreply, State}.
handle_info({next, Pid}, State) -> {noreply, State#{next => Pid}};
handle_info({hop, 0}, State = #{main := Main}) -> Main ! done, {noreply, State};
handle_info({hop, N}, State = #{next := Next}) -> Next ! {hop, N - 1}, {noreply, State};
handle_info(_, State) -> {noreply, maps:update_with(seen, fun(N) -> N + 1 end, 1, State)}.

main() ->
    Rows = [{memory, memory()}, {tell, tell()}, {ask, ask()}, {ring, ring()}, {spawn, spawned()}, {kill, kill()},
            {alive, alive()}],
    io:format("{~s}~n", [lists:join(", ", [io_lib:format("\"~s\": ~.6f", [K, float(V)]) || {K, V} <- Rows])]),
    halt().

start() -> {ok, Pid} = gen_server:start(?MODULE, #{main => self()}, []), Pid.
per(Count, Fun) -> {Took, _} = timer:tc(Fun), Took / Count.
all(Count) -> [start() || _ <- lists:seq(1, Count)].
drop(Pids) -> [exit(Pid, kill) || Pid <- Pids], ok.

tell() ->
    Pid = start(), Batch = 10000,  % a mailbox of hundreds of thousands is garbage collected again and again
    per(20 * Batch, fun() -> [burst(Pid, Batch) || _ <- lists:seq(1, 20)] end).

burst(Pid, Count) -> [Pid ! N || N <- lists:seq(1, Count)], gen_server:call(Pid, sync, infinity).

ask() ->
    Pid = start(), Count = 200000,
    per(Count, fun() -> [gen_server:call(Pid, N) || N <- lists:seq(1, Count)] end).

ring() ->
    Pids = [First | Rest] = all(1000), Count = 500000,
    [Pid ! {next, Next} || {Pid, Next} <- lists:zip(Pids, Rest ++ [First])],
    Took = per(Count, fun() -> First ! {hop, Count}, receive done -> ok end end),
    drop(Pids), Took.

spawned() ->
    Count = 100000,
    {Took, Pids} = timer:tc(fun() -> all(Count) end),
    drop(Pids), Took / Count.

kill() ->
    Count = 50000, Pids = all(Count),
    per(Count, fun() -> [down(Pid) || Pid <- Pids] end).

down(Pid) ->
    Ref = monitor(process, Pid), exit(Pid, kill),
    receive {'DOWN', Ref, process, Pid, killed} -> ok end.

memory() ->
    Before = erlang:memory(processes), Count = 50000,
    Pids = all(Count),
    [Pid ! 1 || Pid <- Pids], [gen_server:call(Pid, sync) || Pid <- Pids],
    Bytes = (erlang:memory(processes) - Before) / Count,
    drop(Pids), Bytes.

alive() ->
    {Took, Pids} = timer:tc(fun() ->
        Pids = all(100000), [Pid ! 1 || Pid <- Pids], gen_server:call(lists:last(Pids), sync), Pids end),
    drop(Pids), Took / 1.0e6.
