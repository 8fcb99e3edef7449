# The same rows in Elixir, with GenServer. Prints one line of JSON.
defmodule Plain do
  use GenServer
  def init(state), do: {:ok, state}
  def handle_call(request, _from, state), do: {:reply, request, state}
  def handle_info({:next, pid}, state), do: {:noreply, Map.put(state, :next, pid)}
  def handle_info({:hop, 0}, state), do: (send(state.main, :done); {:noreply, state})
  def handle_info({:hop, n}, state), do: (send(state.next, {:hop, n - 1}); {:noreply, state})
  def handle_info(_, state), do: {:noreply, Map.update(state, :seen, 1, &(&1 + 1))}
end

defmodule Bench do
  def start do
    {:ok, pid} = GenServer.start(Plain, %{main: self()})
    pid
  end

  def all(count), do: Enum.map(1..count, fn _ -> start() end)
  def drop(pids), do: Enum.each(pids, &Process.exit(&1, :kill))

  def per(count, fun) do
    {took, _} = :timer.tc(fun)
    took / count
  end

  def tell do
    # a mailbox of hundreds of thousands is garbage collected again and again
    {pid, batch} = {start(), 10_000}
    per(20 * batch, fn -> Enum.each(1..20, fn _ -> burst(pid, batch) end) end)
  end

  def burst(pid, count) do
    Enum.each(1..count, &send(pid, &1))
    GenServer.call(pid, :sync, :infinity)
  end

  def ask do
    {pid, count} = {start(), 200_000}
    per(count, fn -> Enum.each(1..count, &GenServer.call(pid, &1)) end)
  end

  def ring do
    [first | rest] = pids = all(1000)
    count = 500_000
    Enum.zip(pids, rest ++ [first]) |> Enum.each(fn {pid, next} -> send(pid, {:next, next}) end)
    took = per(count, fn -> send(first, {:hop, count}); receive do :done -> :ok end end)
    drop(pids)
    took
  end

  def spawned do
    count = 100_000
    {took, pids} = :timer.tc(fn -> all(count) end)
    drop(pids)
    took / count
  end

  def kill do
    count = 50_000
    pids = all(count)
    per(count, fn -> Enum.each(pids, &down/1) end)
  end

  def down(pid) do
    ref = Process.monitor(pid)
    Process.exit(pid, :kill)
    receive do {:DOWN, ^ref, :process, ^pid, :killed} -> :ok end
  end

  def memory do
    {before, count} = {:erlang.memory(:processes), 50_000}
    pids = all(count)
    Enum.each(pids, &send(&1, 1))
    Enum.each(pids, &GenServer.call(&1, :sync))
    bytes = (:erlang.memory(:processes) - before) / count
    drop(pids)
    bytes
  end

  def alive do
    {took, pids} = :timer.tc(fn ->
      pids = all(100_000)
      Enum.each(pids, &send(&1, 1))
      GenServer.call(List.last(pids), :sync)
      pids
    end)
    drop(pids)
    took / 1.0e6
  end
end

rows = [memory: Bench.memory(), tell: Bench.tell(), ask: Bench.ask(), ring: Bench.ring(), spawn: Bench.spawned(),
        kill: Bench.kill(), alive: Bench.alive()]
text = Enum.map_join(rows, ", ", fn {row, value} -> "\"#{row}\": #{:erlang.float_to_binary(value / 1, decimals: 6)}" end)
IO.puts("{#{text}}")
