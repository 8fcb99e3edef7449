%% Single facts about the runtime and the standard behaviours, each of them found
%% by doing it. Prints one JSON object: fact name -> observed value.
%%
%%   erl -noshell -pa ebin -s facts main
-module(facts).
-behaviour(gen_server).

-export([main/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-spec main() -> no_return().
main() ->
    logger:set_primary_config(level, none),
    Facts = maps:from_list([{Name, observe(Fun)} || {Name, Fun} <- facts()]),
    [io:put_chars(["  ", Line, $\n]) || Line <- lines(Facts)],
    halt(0).

lines(Facts) ->
    [[oracle_json:encode(#{K => V})] || {K, V} <- lists:sort(maps:to_list(Facts))].

%% The value of Fun in a process of its own, or [died, Reason].
observe(Fun) ->
    {Pid, Mon} = spawn_monitor(fun() -> exit({value, Fun()}) end),
    receive
        {'DOWN', Mon, process, Pid, {value, V}} -> oracle_json:from_term(V);
        {'DOWN', Mon, process, Pid, Reason} -> oracle_json:from_term({died, Reason})
    after 5000 -> exit(Pid, kill), <<"<hangs>">>
    end.

facts() ->
    signals() ++ links() ++ monitors() ++ names() ++ mailbox() ++ timers()
        ++ gen_servers() ++ sys_facts() ++ supervisors().

%% --- helpers ---------------------------------------------------------------

idle() -> receive stop -> ok end.

dead() ->
    {Pid, Mon} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Mon, _, _, _} -> Pid end.

%% The reason with which Fun makes a process exit.
reason_of(Fun) ->
    {Pid, Mon} = spawn_monitor(Fun),
    receive {'DOWN', Mon, process, Pid, R} -> R end.

trap() -> process_flag(trap_exit, true).

next() -> next(300).

next(Ms) -> receive M -> M after Ms -> nothing end.

raises(Fun) ->
    try {returns, Fun()} catch Class:Reason -> {Class, Reason} end.

%% Replaces pids and references by what they are.
shape(M) when is_pid(M) -> pid;
shape(M) when is_reference(M) -> ref;
shape(M) when is_tuple(M) -> list_to_tuple([shape(X) || X <- tuple_to_list(M)]);
shape(M) when is_list(M) -> [shape(X) || X <- M];
shape(M) -> M.

sync(Pid) -> is_process_alive(Pid).

%% --- exit signals ----------------------------------------------------------

%% Target traps or not; then gets exit(Target, Reason); what becomes of it?
signalled(Trap, Reason) ->
    Self = self(),
    {Pid, Mon} = spawn_monitor(
                   fun() ->
                           process_flag(trap_exit, Trap),
                           Self ! ready,
                           receive {'EXIT', Self, R} -> exit({got, R}); stop -> exit(survived) end
                   end),
    receive ready -> ok end,
    exit(Pid, Reason),
    sync(Pid),
    Pid ! stop,
    receive {'DOWN', Mon, process, Pid, R} -> R end.

signals() ->
    [{<<"signal to a process, trap ", (atom_to_binary(T))/binary, ", reason ", (atom_to_binary(R))/binary>>,
      fun() -> signalled(T, R) end} || T <- [false, true], R <- [normal, shutdown, crash, kill]]
        ++ [{<<"exit(self(), normal) not trapping">>,
             fun() -> reason_of(fun() -> exit(self(), normal), idle() end) end},
            {<<"exit(self(), kill) trapping">>,
             fun() -> reason_of(fun() -> trap(), exit(self(), kill), idle() end) end},
            {<<"exit(self(), crash) trapping gives a message">>,
             fun() -> trap(), exit(self(), crash), shape(next()) end},
            {<<"exit(kill) by the process itself: reason">>,
             fun() -> reason_of(fun() -> exit(kill) end) end},
            {<<"exit(kill) can be caught">>, fun() -> raises(fun() -> exit(kill) end) end},
            {<<"error(oops): reason">>, fun() -> reason_of(fun() -> error(oops) end) end},
            {<<"throw(oops) uncaught: reason">>, fun() -> reason_of(fun() -> throw(oops) end) end},
            {<<"function returns: reason">>, fun() -> reason_of(fun() -> 42 end) end}].

%% --- links -----------------------------------------------------------------

%% A linked process ends by Fun: what a trapping and a plain partner get.
partner(Fun) ->
    Plain = reason_of(fun() -> spawn_link(Fun), receive after 200 -> exit(survived) end end),
    trap(),
    spawn_link(Fun),
    {plain, Plain, trapping, shape(next())}.

links() ->
    [{<<"link partner exits normal">>, fun() -> partner(fun() -> ok end) end},
     {<<"link partner exits crash">>, fun() -> partner(fun() -> exit(crash) end) end},
     {<<"link partner exits itself with kill">>, fun() -> partner(fun() -> exit(kill) end) end},
     {<<"link partner killed by signal">>, fun() -> partner(fun() -> exit(self(), kill) end) end},
     {<<"link to a dead process, trapping">>,
      fun() -> trap(), D = dead(), R = raises(fun() -> link(D) end), {R, shape(next())} end},
     {<<"link to a dead process, not trapping">>, fun() -> D = dead(), raises(fun() -> link(D) end) end},
     {<<"link twice, unlink once, partner crashes">>,
      fun() ->
              P = spawn(fun() -> receive go -> exit(crash) end end),
              trap(), link(P), link(P), unlink(P), P ! go, next()
      end},
     {<<"link twice, partner crashes: messages">>,
      fun() ->
              P = spawn(fun() -> receive go -> exit(crash) end end),
              trap(), link(P), link(P), P ! go, {shape(next()), next()}
      end},
     {<<"link to self">>, fun() -> {raises(fun() -> link(self()) end), process_info(self(), links)} end},
     {<<"trap_exit turned on after the signal was delivered">>,
      fun() ->
              reason_of(fun() -> spawn_link(fun() -> exit(crash) end),
                                 receive after 50 -> ok end, trap(), exit(too_late) end)
      end}].

%% --- monitors --------------------------------------------------------------

monitors() ->
    [{<<"monitor a dead process">>, fun() -> monitor(process, dead()), shape(next()) end},
     {<<"monitor an unregistered name">>,
      fun() -> monitor(process, no_such_name), {'DOWN', R, process, {N, Node}, Why} = next(),
               {shape(R), N, Node =:= node(), Why} end},
     {<<"monitor self">>, fun() -> M = monitor(process, self()), {shape(M), next(50)} end},
     {<<"monitor twice: number of DOWNs">>,
      fun() ->
              P = spawn(fun idle/0),
              monitor(process, P), monitor(process, P), P ! stop,
              {shape(next()), shape(next()), next(50)}
      end},
     {<<"demonitor after the DOWN arrived keeps it">>,
      fun() -> M = monitor(process, dead()), receive after 20 -> ok end,
               {demonitor(M), shape(next())} end},
     {<<"demonitor flush after the DOWN arrived">>,
      fun() -> M = monitor(process, dead()), receive after 20 -> ok end,
               {demonitor(M, [flush]), next(50)} end},
     {<<"demonitor info: live, then again">>,
      fun() -> P = spawn(fun idle/0), M = monitor(process, P),
               {demonitor(M, [info]), demonitor(M, [info])} end},
     {<<"demonitor flush,info after the DOWN arrived">>,
      fun() -> M = monitor(process, dead()), receive after 20 -> ok end,
               demonitor(M, [flush, info]) end},
     {<<"spawn_monitor, normal exit">>, fun() -> spawn_monitor(fun() -> ok end), shape(next()) end},
     {<<"monitor with alias: the alias is the reference; send then demonitor">>,
      fun() ->
              P = spawn(fun idle/0),
              M = monitor(process, P, [{alias, demonitor}]),
              M ! one, A = next(), demonitor(M), M ! two,
              {A, next(50)}
      end},
     {<<"alias reply: only the first message comes">>,
      fun() -> A = alias([reply]), A ! one, A ! two, {next(), next(50)} end},
     {<<"unalias twice">>, fun() -> A = alias(), {unalias(A), unalias(A)} end}].

%% --- registered names -------------------------------------------------------

names() ->
    [{<<"send to an unregistered name">>, fun() -> raises(fun() -> no_such_name ! x end) end},
     {<<"send to a dead pid">>, fun() -> D = dead(), raises(fun() -> D ! x end) end},
     {<<"register a taken name">>,
      fun() -> register(fact_a, self()), P = spawn(fun idle/0),
               raises(fun() -> register(fact_a, P) end) end},
     {<<"register a second name for a process">>,
      fun() -> register(fact_b, self()), raises(fun() -> register(fact_c, self()) end) end},
     {<<"register a dead process">>, fun() -> D = dead(), raises(fun() -> register(fact_d, D) end) end},
     {<<"register the name undefined">>, fun() -> raises(fun() -> register(undefined, self()) end) end},
     {<<"unregister an unknown name">>, fun() -> raises(fun() -> unregister(no_such_name) end) end},
     {<<"the name is free when the DOWN arrives">>,
      fun() ->
              P = spawn(fun idle/0), register(fact_e, P), monitor(process, P), P ! stop,
              _ = next(), whereis(fact_e)
      end}].

%% --- mailbox ----------------------------------------------------------------

mailbox() ->
    [{<<"selective receive takes the first match and keeps the order of the rest">>,
      fun() ->
              [self() ! M || M <- [{a, 1}, {b, 1}, {a, 2}, {b, 2}]],
              First = receive {b, N} -> {b, N} end,
              {First, next(), next(), next()}
      end},
     {<<"receive after 0 takes a waiting match">>,
      fun() -> self() ! x, receive x -> x after 0 -> timeout end end},
     {<<"receive after 0 with no match">>,
      fun() -> self() ! y, receive x -> x after 0 -> {timeout, next()} end end},
     {<<"clause order does not beat mailbox order">>,
      fun() -> self() ! second, self() ! first, receive first -> first; second -> second end end},
     {<<"messages before the exit signal of the same sender">>,
      fun() ->
              trap(), S = self(),
              spawn_link(fun() -> S ! one, S ! two, exit(bye) end),
              {next(), next(), shape(next())}
      end}].

%% --- timers -----------------------------------------------------------------

timers() ->
    [{<<"send_after 0 is asynchronous">>,
      fun() -> erlang:send_after(0, self(), x), next() end},
     {<<"start_timer message">>, fun() -> erlang:start_timer(1, self(), x), shape(next()) end},
     {<<"cancel a fired timer">>,
      fun() -> T = erlang:send_after(1, self(), x), next(), erlang:cancel_timer(T) end},
     {<<"cancel a live timer gives the milliseconds left">>,
      fun() -> T = erlang:send_after(60000, self(), x), L = erlang:cancel_timer(T),
               is_integer(L) andalso L =< 60000 end},
     {<<"cancel twice">>,
      fun() -> T = erlang:send_after(60000, self(), x), erlang:cancel_timer(T), erlang:cancel_timer(T) end},
     {<<"cancel after the message arrived leaves it in the mailbox">>,
      fun() -> T = erlang:send_after(1, self(), x), receive after 30 -> ok end,
               {erlang:cancel_timer(T), next(0)} end},
     {<<"timer to a process that died">>,
      fun() -> raises(fun() -> is_reference(erlang:send_after(1, dead(), x)) end) end}].

%% --- gen_server ---------------------------------------------------------------

init({stop, R}) -> {stop, R};
init(ignore) -> ignore;
init({exit, R}) -> exit(R);
init({throw, V}) -> throw(V);
init({bad, V}) -> V;
init({sleep, Ms}) -> timer:sleep(Ms), {ok, none};
init({trap, Reporter}) -> trap(), {ok, Reporter};
init(State) -> {ok, State}.

handle_call({reply, V}, _, S) -> {reply, V, S};
handle_call({sleep, Ms}, _, S) -> timer:sleep(Ms), {reply, late, S};
handle_call({stop, R, V}, _, S) -> {stop, R, V, S};
handle_call({stop, R}, _, S) -> {stop, R, S};
handle_call({later, _}, From, S) -> gen_server:reply(From, early), {noreply, S};
handle_call(self_call, _, S) -> {reply, raises(fun() -> gen_server:call(self(), x) end), S};
handle_call(crash, _, _) -> exit(crashed);
handle_call(error, _, _) -> error(oops);
handle_call(throw, _, S) -> throw({reply, thrown, S});
handle_call(bad, _, _) -> bad_value;
handle_call({timeout, T}, _, S) -> {reply, ok, S, T}.

handle_cast({stop, R}, S) -> {stop, R, S};
handle_cast({sleep, Ms}, S) -> timer:sleep(Ms), {noreply, S};
handle_cast({set, V}, _) -> {noreply, V};
handle_cast({note, N}, S) -> S ! {note, N}, {noreply, S};
handle_cast(_, S) -> {noreply, S}.

handle_info(timeout, S) when is_pid(S) -> S ! timed_out, {noreply, S};
handle_info({'EXIT', _, R}, S) when is_pid(S) -> S ! {info_exit, R}, {noreply, S};
handle_info(_, S) -> {noreply, S}.

terminate(R, S) when is_pid(S) -> S ! {terminate, R}, ok;
terminate(_, _) -> ok.

server(Arg) -> {ok, P} = gen_server:start(?MODULE, Arg, []), P.

%% What is left of an exit reason when the call's own arguments are dropped.
call(P, Request) -> call(P, Request, 5000).

call(P, Request, Timeout) ->
    case raises(fun() -> gen_server:call(P, Request, Timeout) end) of
        {exit, {Reason, {gen_server, call, _}}} -> {exit, {Reason, call}};
        Other -> shape(Other)
    end.

%% A trapping server is asleep with two casts in its mailbox when its parent does
%% Act: all that the parent then sees.
behind_two_casts(Act) ->
    trap(),
    {ok, P} = gen_server:start_link(?MODULE, {trap, self()}, []),
    [gen_server:cast(P, Cast) || Cast <- [{sleep, 30}, {note, 1}, {note, 2}]],
    Act(P),
    [shape(next()) || _ <- lists:seq(1, 5)].

gen_servers() ->
    [{<<"gen_server:stop waits behind queued messages">>,
      fun() -> behind_two_casts(fun(P) -> gen_server:stop(P) end) end},
     {<<"exit(P, shutdown) to a trapping server waits behind queued messages">>,
      fun() -> behind_two_casts(fun(P) -> exit(P, shutdown) end) end},
     {<<"exit(P, kill) to a trapping server does not wait behind queued messages">>,
      fun() -> behind_two_casts(fun(P) -> exit(P, kill) end) end},
     {<<"gen_server start_link, init stop">>,
      fun() -> trap(), {gen_server:start_link(?MODULE, {stop, why}, []), shape(next(50))} end},
     {<<"gen_server start_link, init ignore">>,
      fun() -> trap(), {gen_server:start_link(?MODULE, ignore, []), shape(next(50))} end},
     {<<"gen_server start_link, init exits">>,
      fun() -> trap(), {gen_server:start_link(?MODULE, {exit, why}, []), shape(next(50))} end},
     {<<"gen_server start_link, init throws {ok,1}">>,
      fun() -> {Ok, _} = gen_server:start_link(?MODULE, {throw, {ok, 1}}, []), Ok end},
     {<<"gen_server start_link, init returns rubbish">>,
      fun() -> trap(), gen_server:start_link(?MODULE, {bad, rubbish}, []) end},
     {<<"gen_server start, init too slow">>,
      fun() -> gen_server:start(?MODULE, {sleep, 500}, [{timeout, 20}]) end},
     {<<"gen_server start, name taken">>,
      fun() -> {ok, _} = gen_server:start({local, fact_s}, ?MODULE, x, []),
               shape(gen_server:start({local, fact_s}, ?MODULE, x, [])) end},
     {<<"call a dead pid">>, fun() -> call(dead(), x) end},
     {<<"call an unregistered name">>, fun() -> call(no_such_name, x) end},
     {<<"call self">>, fun() -> {exit, {R, _}} = gen_server:call(server(x), self_call), R end},
     {<<"call, server crashes with exit">>, fun() -> call(server(x), crash) end},
     {<<"call, server crashes with error">>, fun() -> call(server(x), error) end},
     {<<"call, handle_call throws a reply">>, fun() -> call(server(x), throw) end},
     {<<"call, bad return value">>, fun() -> call(server(x), bad) end},
     {<<"call, {stop, R, Reply, S}">>, fun() -> call(server(x), {stop, bye, reply}) end},
     {<<"call, {stop, R, S}">>, fun() -> call(server(x), {stop, bye}) end},
     {<<"call, {stop, normal, S}">>, fun() -> call(server(x), {stop, normal}) end},
     {<<"call, reply/2 then noreply">>, fun() -> call(server(x), {later, x}) end},
     {<<"call times out: exit, and no late reply in the mailbox">>,
      fun() -> R = call(server(x), {sleep, 60}, 10), {R, next(200)} end},
     {<<"a timed-out call leaves the server running">>,
      fun() -> P = server(x), call(P, {sleep, 30}, 5), call(P, {reply, alive}) end},
     {<<"cast to a dead pid">>, fun() -> gen_server:cast(dead(), x) end},
     {<<"cast to an unregistered name">>, fun() -> gen_server:cast(no_such_name, x) end},
     {<<"timeout return value, no message">>,
      fun() -> P = server(self()), gen_server:call(P, {timeout, 10}), next() end},
     {<<"timeout return value cancelled by a message">>,
      fun() -> P = server(self()), gen_server:call(P, {timeout, 40}), P ! x, next(150) end},
     {<<"non-trapping server: parent shuts it down, terminate not called">>,
      fun() ->
              trap(), S = self(),
              {ok, P} = gen_server:start_link(?MODULE, S, []),
              exit(P, shutdown), {shape(next()), next(50)}
      end},
     {<<"trapping server: EXIT from its parent calls terminate">>,
      fun() ->
              trap(), S = self(),
              {ok, P} = gen_server:start_link(?MODULE, {trap, S}, []),
              exit(P, why), {shape(next()), shape(next())}
      end},
     {<<"trapping server: EXIT normal from its parent also stops it">>,
      fun() ->
              trap(), S = self(),
              {ok, P} = gen_server:start_link(?MODULE, {trap, S}, []),
              exit(P, normal), {shape(next()), shape(next())}
      end},
     {<<"trapping server: EXIT from another process goes to handle_info">>,
      fun() ->
              trap(), S = self(),
              {ok, P} = gen_server:start_link(?MODULE, {trap, S}, []),
              spawn(fun() -> exit(P, why) end), shape(next())
      end},
     {<<"gen_server:stop default reason">>,
      fun() -> P = server(self()), monitor(process, P), {gen_server:stop(P), next(), shape(next())} end},
     {<<"gen_server:stop of a dead pid">>, fun() -> raises(fun() -> gen_server:stop(dead()) end) end},
     {<<"gen_server:stop times out">>,
      fun() -> P = server(x), spawn(fun() -> gen_server:call(P, {sleep, 200}) end), timer:sleep(20),
               raises(fun() -> gen_server:stop(P, normal, 20) end) end}].

%% --- sys ------------------------------------------------------------------------

sys_facts() ->
    [{<<"sys:get_state">>, fun() -> sys:get_state(server(hello)) end},
     {<<"sys:replace_state">>,
      fun() -> P = server(1), {sys:replace_state(P, fun(N) -> N + 1 end), sys:get_state(P)} end},
     {<<"sys:replace_state with a crashing function keeps the state">>,
      fun() ->
              P = server(1),
              {C, _} = raises(fun() -> sys:replace_state(P, fun(_) -> error(no) end) end),
              {C, sys:get_state(P)}
      end},
     {<<"suspended server: call times out, and is served after resume">>,
      fun() ->
              P = server(self()), sys:suspend(P), R = call(P, {reply, x}, 20),
              gen_server:cast(P, {stop, normal}), monitor(process, P),
              Quiet = next(30), sys:resume(P), {R, Quiet, shape(next()), shape(next())}
      end},
     {<<"suspended server still answers sys:get_state">>,
      fun() -> P = server(hello), sys:suspend(P), sys:get_state(P) end},
     {<<"suspend twice, resume twice">>,
      fun() -> P = server(x), {sys:suspend(P), sys:suspend(P), sys:resume(P), sys:resume(P)} end},
     {<<"suspended trapping server: parent EXIT stops it">>,
      fun() ->
              trap(), {ok, P} = gen_server:start_link(?MODULE, {trap, self()}, []),
              sys:suspend(P), exit(P, shutdown), {shape(next()), shape(next())}
      end},
     {<<"sys:get_state waits behind queued messages">>,
      fun() -> P = server(0), gen_server:cast(P, {sleep, 30}), gen_server:cast(P, {set, 1}), sys:get_state(P) end},
     {<<"suspended server: gen_server:stop ends it, before what is queued">>,
      fun() ->
              P = server(self()), sys:suspend(P), gen_server:cast(P, {note, 1}), monitor(process, P),
              {gen_server:stop(P), shape(next()), shape(next()), next(50)}
      end},
     {<<"sys:statistics keys">>,
      fun() ->
              P = server(x), ok = sys:statistics(P, true), gen_server:call(P, {reply, 1}),
              gen_server:cast(P, x),
              {ok, S} = sys:statistics(P, get),
              {[K || {K, _} <- S], {proplists:get_value(messages_in, S),
                                    proplists:get_value(messages_out, S)}}
      end},
     {<<"sys:log events of one call and one cast">>,
      fun() ->
              P = server(st), ok = sys:log(P, true), gen_server:call(P, {reply, 1}), gen_server:cast(P, c),
              {ok, Events} = sys:log(P, get),
              [element(1, E) || E <- Events]
      end},
     {<<"sys:get_state of a dead pid">>,
      fun() -> {C, {R, _}} = raises(fun() -> sys:get_state(dead()) end), {C, R} end}].

%% --- supervisor -------------------------------------------------------------------

supervisors() ->
    Bad = fun(Flags) -> trap(), element(2, supervisor:start_link(supervisor_facts(Flags, []), x)) end,
    [{<<"supervisor init ignore">>,
      fun() -> trap(), {supervisor:start_link(supervisor_facts(ignore), x), shape(next(50))} end},
     {<<"supervisor init returns rubbish">>,
      fun() ->
              trap(),
              {error, {bad_return, {_, F, V}}} = supervisor:start_link(supervisor_facts(rubbish), x),
              {error, {bad_return, {module, F, V}}}
      end},
     {<<"supervisor flags: bad strategy">>, fun() -> Bad(#{strategy => foo}) end},
     {<<"supervisor flags: intensity -1">>, fun() -> Bad(#{intensity => -1}) end},
     {<<"supervisor flags: period 0">>, fun() -> Bad(#{period => 0}) end},
     {<<"supervisor flags: period 1.5">>, fun() -> Bad(#{period => 1.5}) end},
     {<<"supervisor flags: bad auto_shutdown">>, fun() -> Bad(#{auto_shutdown => foo}) end},
     {<<"check_childspecs: no id">>, fun() -> supervisor:check_childspecs([#{start => {m, f, []}}]) end},
     {<<"check_childspecs: no start">>, fun() -> supervisor:check_childspecs([#{id => a}]) end},
     {<<"check_childspecs: duplicate id">>,
      fun() -> S = #{id => a, start => {m, f, []}}, supervisor:check_childspecs([S, S]) end},
     {<<"check_childspecs: bad restart">>,
      fun() -> supervisor:check_childspecs([#{id => a, start => {m, f, []}, restart => foo}]) end},
     {<<"check_childspecs: shutdown -1">>,
      fun() -> supervisor:check_childspecs([#{id => a, start => {m, f, []}, shutdown => -1}]) end},
     {<<"check_childspecs: unknown key is ignored">>,
      fun() -> supervisor:check_childspecs([#{id => a, start => {m, f, []}, silly => 1}]) end},
     {<<"check_childspecs: significant permanent">>,
      fun() -> supervisor:check_childspecs([#{id => a, start => {m, f, []}, significant => true}],
                                           any_significant) end}].

%% A module whose init/1 returns Value, made on the spot.
supervisor_facts(Flags, Specs) -> supervisor_facts({ok, {Flags, Specs}}).

supervisor_facts(Value) ->
    Name = list_to_atom("facts_sup_" ++ integer_to_list(erlang:unique_integer([positive]))),
    Forms = [{attribute, 1, module, Name}, {attribute, 1, export, [{init, 1}]},
             {function, 1, init, 1,
              [{clause, 1, [{var, 1, '_'}], [], [erl_parse:abstract(Value)]}]}],
    {ok, Name, Beam} = compile:forms(Forms),
    {module, Name} = code:load_binary(Name, "facts", Beam),
    Name.
