# The same acts on Elixir's own supervisors; prints name=figure lines.
defmodule Echo do
  use GenServer
  def start_link(_), do: GenServer.start_link(__MODULE__, nil)
  def init(_), do: {:ok, nil}
  def handle_call(request, _from, state), do: {:reply, request, state}
end

defmodule Bench do
  def us(fun) do
    began = System.monotonic_time(:nanosecond)
    fun.()
    (System.monotonic_time(:nanosecond) - began) / 1000
  end

  def median(list), do: Enum.at(Enum.sort(list), div(length(list), 2))

  def child(sup), do: sup |> Supervisor.which_children() |> hd() |> elem(1)

  # Unlike ours, a signal to the supervisor may still be under way when it is asked.
  def successor(sup, old) do
    case child(sup) do
      pid when is_pid(pid) and pid != old -> pid
      _ -> successor(sup, old)
    end
  end
end

Logger.configure(level: :none)
{:ok, echo} = Echo.start_link(nil)
ask = Bench.median(for _ <- 1..5000, do: Bench.us(fn -> GenServer.call(echo, :x) end))
{:ok, sup} = Supervisor.start_link([Echo], strategy: :one_for_one, max_restarts: 100_000)

killed =
  Bench.median(
    for _ <- 1..300 do
      pid = Bench.child(sup)

      Bench.us(fn ->
        Process.exit(pid, :kill)
        GenServer.call(Bench.successor(sup, pid), :x)
      end)
    end
  )

IO.puts("ask, us=#{ask}")
IO.puts("kill to answering, us=#{killed}")
IO.puts("kill to answering, asks=#{killed / ask}")

for count <- [100, 1000, 10_000] do
  {:ok, pool} = DynamicSupervisor.start_link(strategy: :one_for_one)
  spec = Supervisor.child_spec(Echo, restart: :temporary)

  took =
    Bench.us(fn ->
      for _ <- 1..count, do: {:ok, _} = DynamicSupervisor.start_child(pool, spec)
      DynamicSupervisor.stop(pool)
    end)

  IO.puts("child started and stopped of #{count}, us=#{took / count}")
end

{:ok, pool} = DynamicSupervisor.start_link(strategy: :one_for_one, max_restarts: 100_000)
pids = for _ <- 1..10_000, do: elem(DynamicSupervisor.start_child(pool, Echo), 1)
bystander = List.last(pids)
slow = :counters.new(1, [])

storm =
  Bench.us(fn ->
    for pid <- Enum.take(pids, 1000), do: Process.exit(pid, :kill)

    wait = fn wait ->
      took = Bench.us(fn -> GenServer.call(bystander, :x) end)
      if took > :counters.get(slow, 1), do: :counters.put(slow, 1, round(took))
      live = MapSet.new(for {_, pid, _, _} <- DynamicSupervisor.which_children(pool), do: pid)
      if Enum.any?(Enum.take(pids, 1000), &(&1 in live)) or MapSet.size(live) < 10_000, do: wait.(wait)
    end

    wait.(wait)
  end)

IO.puts("1000 crashes among 10000 to restarted, ms=#{storm / 1000}")
IO.puts("slowest ask to a bystander meanwhile, ms=#{:counters.get(slow, 1) / 1000}")
