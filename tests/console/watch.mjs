// Watches what must not happen in a tab: violations of the content security policy, errors in the
// console, errors of scripts, requests to another origin, and a full key in an address.

const FULL_KEY = /rg_[0-9A-Za-z]{30,}/;

export class Watch {
  #check;
  #expected = [];

  // `check(good, fault)` records faults.
  static async over(page, origin, check) {
    const watch = new Watch();
    watch.#check = check;
    await page.evaluateOnNewDocument(() => {
      addEventListener('securitypolicyviolation', (it) => {
        console.error(`content security policy: ${it.effectiveDirective} ${it.blockedURI} ${it.sourceFile}:${it.lineNumber}`);
      });
    });
    page.on('request', (request) => {
      const url = new URL(request.url());
      check(url.origin === origin || url.protocol === 'data:', `a request to another origin: ${url}`);
      check(!FULL_KEY.test(url.pathname + url.search), 'a request has a full key in its address');
    });
    page.on('pageerror', (error) => check(false, `an error of a script: ${error.stack ?? error}`));
    page.on('console', (message) => watch.#read(message));
    return watch;
  }

  // Expects that requests to this path fail with `what`: a status, or a part of the browser's text. The
  // browser writes each failed request to the console as an error.
  expect(what, path) {
    const expected = { what: String(what), path, seen: 0 };
    this.#expected.push(expected);
    return expected;
  }

  #read(message) {
    if (!['error', 'warn'].includes(message.type())) {
      return;
    }
    const [text, url] = [message.text(), message.location().url ?? ''];
    const expected = this.#expected.findLast((it) => text.startsWith('Failed to load resource')
      && text.includes(it.what) && url.includes(it.path));
    if (expected) {
      expected.seen += 1;
    } else {
      this.#check(false, `in the console: ${text} (${url})`);
    }
  }

  // An expected failure that did not happen is a fault of the test.
  end() {
    for (const { what, path, seen } of this.#expected) {
      this.#check(seen > 0, `expected a failed request to ${path} (${what}), but there was none`);
    }
  }
}
