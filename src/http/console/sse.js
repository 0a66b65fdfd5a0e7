// Reads server-sent events from the answer of `fetch`, because `EventSource` cannot send a key.

// Yields the messages of the answer: `{ id, event, data }`. Members that the message lacks are null.
// Calls `heard` whenever something arrives, which may be a comment.
export async function* messages(response, heard = () => {}) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let message = blank();
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) {
        return;
      }
      heard();
      const lines = (rest + value).split(/\r\n|\n|\r/);
      rest = lines.pop();
      for (const line of lines) {
        if (line !== '') {
          take(message, line);
        } else if (message.id !== null || message.data !== null || message.event !== null) {
          yield message;
          message = blank();
        }
      }
    }
  } finally {
    // Leaving the loop early closes the connection.
    reader.cancel().catch(() => {});
  }
}

const blank = () => ({ id: null, event: null, data: null });

function take(message, line) {
  const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
  if (field === 'data') {
    message.data = message.data === null ? value : `${message.data}\n${value}`;
  } else if (field === 'id' || field === 'event') {
    message[field] = value;
  }
}
