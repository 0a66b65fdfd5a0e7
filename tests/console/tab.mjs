// A tab with the console, operated as a person does: by the roles, names and texts that are visible.

import { Watch } from './watch.mjs';
import { until } from './wait.mjs';

export class Tab {
  constructor(page, server, watch) {
    this.page = page;
    this.server = server;
    this.watch = watch;
  }

  // `setup(page)` runs before the first document.
  static async open(context, server, check, setup = async () => {}) {
    const page = await context.newPage();
    await page.setViewport({ width: 1280, height: 900 });
    // Nothing moves while this script aims at it.
    await page.emulateMediaFeatures([{ name: 'prefers-reduced-motion', value: 'reduce' }]);
    const tab = new Tab(page, server, await Watch.over(page, server.origin, check));
    await setup(page);
    return tab;
  }

  goto(fragment = '') {
    return this.page.goto(`${this.server.origin}/console/${fragment}`);
  }

  // Opens the console and signs in.
  async signIn(key, { keep = false } = {}) {
    await this.goto();
    await this.enter(key, { keep });
    await this.heading('Keys');
  }

  async enter(key, { keep = false } = {}) {
    await this.fill('textbox', 'API key', key);
    if (keep) {
      await this.click('checkbox', 'Keep the key in this tab over a reload');
    }
    await this.click('button', 'Open');
    await this.find('link', 'Keys');
  }

  // Returns the visible elements with a role and a name. A name that is a pattern is compared with the
  // text of the element or of its label. Behind an open dialog nothing can be reached.
  async all(role, name, within = null) {
    const root = within ?? await this.page.$('dialog[open]') ?? this.page;
    const exact = typeof name === 'string' ? `[name="${name.replaceAll('"', '\\"')}"]` : '';
    const found = [];
    for (const it of await root.$$(`::-p-aria(${exact}[role="${role}"])`)) {
      if (await it.evaluate(isReachable) && (exact || name.test(await it.evaluate(textOf)))) {
        found.push(it);
      }
    }
    return found;
  }

  // Returns the only element with this role and name, once it is there.
  find(role, name, within) {
    return until(`one ${role} named ${name}`, async () => {
      const found = await this.all(role, name, within);
      if (1 < found.length) {
        throw new Error(`there are ${found.length}`);
      }
      return found[0];
    });
  }

  async has(role, name, within) {
    return (await this.all(role, name, within)).length > 0;
  }

  heading(name) {
    return this.find('heading', name);
  }

  // Presses the element with the mouse, unless another element covers it.
  async click(role, name, within) {
    await until(`press the ${role} named ${name}`, async () => {
      const element = await this.find(role, name, within);
      await element.scrollIntoView();
      if (!await element.evaluate(isOnTop)) {
        throw new Error('another element covers it, or it is disabled');
      }
      await element.click();
      return true;
    });
  }

  // Replaces the text of a field by typing.
  async fill(role, name, text) {
    const field = await this.find(role, name);
    await field.focus();
    await field.evaluate((it) => it.select?.());
    await this.page.keyboard.press('Backspace');
    await field.type(text);
  }

  async choose(name, value) {
    const field = await this.find('combobox', name);
    await field.select(value);
  }

  // Returns the visible text of the open dialog, or of the page. The choices of a closed list do not count.
  text() {
    return this.page.evaluate(() => {
      const text = (document.querySelector('dialog[open]') ?? document.body).innerText;
      const choices = [...document.querySelectorAll('select')].map((it) => it.innerText);
      return choices.reduce((rest, it) => rest.replace(it, ''), text);
    });
  }

  see(wanted, patience) {
    return until(`the text ${wanted} is visible`, async () => {
      const text = await this.text();
      const found = wanted instanceof RegExp ? text.match(wanted) : text.includes(wanted) && [wanted];
      if (!found) {
        throw new Error(`visible is: ${text.replace(/\s+/g, ' ').slice(0, 900)}`);
      }
      return found;
    }, patience);
  }

  gone(unwanted) {
    return until(`the text ${unwanted} is gone`, async () => !(await this.text()).match(unwanted));
  }

  async noDialog() {
    await until('the dialog is closed', async () => !await this.page.$('dialog[open]'));
  }

  // Returns the rows of the table on the page, each a list of the texts of its cells.
  rows() {
    return this.page.$$eval('tbody tr', (rows) => rows.map((row) => [...row.cells].map((it) => it.innerText.trim())));
  }

  row(name) {
    return this.find('row', name instanceof RegExp ? name : new RegExp(`^\\s*${name}\\b`));
  }

  // Chooses an entry of the menu in the row of a key.
  async act(key, action) {
    await this.click('button', `Actions for ${key}`);
    await this.click('menuitem', `${action}…`);
  }

  // What the tab keeps apart from the memory of its scripts.
  traces() {
    return this.page.evaluate(() => JSON.stringify({
      document: document.documentElement.outerHTML,
      fields: [...document.querySelectorAll('input, textarea')].map((it) => it.value),
      address: location.href,
      history: history.state,
      title: document.title,
      session: { ...sessionStorage },
      local: { ...localStorage },
      cookie: document.cookie,
    }));
  }

  // Saves files in this folder without a question.
  async saveTo(folder) {
    const browser = await this.page.createCDPSession();
    await browser.send('Browser.setDownloadBehavior', {
      behavior: 'allow', downloadPath: folder, browserContextId: this.page.browserContext().id,
    });
  }

  async clipboard() {
    await this.page.bringToFront();
    return this.page.evaluate(() => navigator.clipboard.readText());
  }

  focused() {
    return this.page.evaluate(() => {
      const it = document.activeElement;
      return it.ariaLabel ?? it.labels?.[0]?.innerText.trim() ?? it.innerText?.trim() ?? '';
    });
  }
}

function isReachable(element) {
  return element.checkVisibility({ checkVisibilityCSS: true }) && !element.closest('[inert]');
}

function textOf(element) {
  return element.ariaLabel ?? (element.labels?.[0] ?? element).innerText;
}

// A label stands for its field: a radio button can lie invisible under the text of its label.
function isOnTop(element) {
  const { x, y, width, height } = element.getBoundingClientRect();
  const hit = document.elementFromPoint(x + width / 2, y + height / 2);
  return !element.disabled && Boolean(hit) && (element.contains(hit) || [...(element.labels ?? [])].some((it) => it.contains(hit)));
}
