// What several views need: loading, the present time, and a task that runs once at a time.

import { useCallback, useEffect, useRef, useState } from './html.js';
import { connection } from './api.js';
import { SECOND } from './format.js';

// Calls `load(signal)` when one of `inputs` changes, and returns `{ data, error, loading, reload }`. The
// last data stays until the new data is there.
export function useLoad(load, inputs) {
  const [state, setState] = useState({ loading: true });
  const [round, setRound] = useState(0);
  useEffect(() => {
    const aborter = new AbortController();
    const update = (next) => aborter.signal.aborted || setState(next);
    setState((last) => ({ ...last, loading: true, error: undefined }));
    load(aborter.signal).then(
      (data) => update({ data, loading: false }),
      (error) => update((last) => ({ data: last.data, error, loading: false })),
    );
    return () => aborter.abort();
  }, [...inputs, round]);
  const reload = useCallback(() => setRound((it) => it + 1), []);
  useReconnect(state.error, reload);
  return { ...state, reload };
}

// Calls `reload` when the connection is there again after it caused `error`.
export function useReconnect(error, reload) {
  const failed = error?.status === 0;
  useEffect(() => {
    const changed = () => failed && !connection.lost && reload();
    return connection.subscribe(changed);
  }, [failed, reload]);
}

// Returns `{ run, busy, error }`. `run(task)` awaits the task and keeps its error for the view.
export function useTask() {
  const [state, setState] = useState({ busy: false });
  const running = useRef(false);
  const run = useCallback(async (task) => {
    if (running.current) {
      return;
    }
    running.current = true;
    setState({ busy: true });
    try {
      await task();
      setState({ busy: false });
    } catch (error) {
      setState({ busy: false, error });
    } finally {
      running.current = false;
    }
  }, []);
  return { run, ...state };
}

// Returns the present time in milliseconds, again after each `step`.
export function useNow(step = SECOND) {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), step);
    return () => clearInterval(timer);
  }, [step]);
  return now;
}

// Renders again when `subscribe` reports a change.
export function useListener(subscribe) {
  const [, setRound] = useState(0);
  useEffect(() => subscribe(() => setRound((it) => it + 1)), [subscribe]);
}

// Holds an answer with a plaintext key, in its member `secret`, for a dialog. `onClose` gets the rest of it,
// or nothing. Returns `{ made, setMade, close, closed }`. A closed
// dialog renders nothing once before `onClose` is called: the browser can keep a form that is gone, and
// its handlers reach what the components around it rendered last. So the form and the key also need two
// `Dialog`s, with different `key`s.
export function useMade(onClose, secret = 'key') {
  const [{ made, closed }, setState] = useState({ made: null, closed: null });
  useEffect(() => {
    if (closed) {
      onClose(closed.rest);
    }
  }, [closed]);
  const setMade = (answer) => setState({ made: answer, closed: null });
  const close = () => {
    const { [secret]: _, ...rest } = made ?? {};
    setState({ made: null, closed: { rest: made ? rest : undefined } });
  };
  return { made, setMade, close, closed };
}
