// Waits for conditions.

const PATIENCE = 20_000;
const PAUSE = 40;

export const pause = (millis) => new Promise((done) => setTimeout(done, millis));

// Returns the first value of `probe()` that counts as true. A probe that throws is repeated.
export async function until(what, probe, patience = PATIENCE) {
  const end = Date.now() + patience;
  for (let last = null; ; await pause(PAUSE)) {
    try {
      const value = await probe();
      if (value) {
        return value;
      }
      last = null;
    } catch (error) {
      last = error;
    }
    if (end < Date.now()) {
      throw new Error(`not within ${patience / 1000} seconds: ${what}${last ? ` (${last.message})` : ''}`);
    }
  }
}
