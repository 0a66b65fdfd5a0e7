// One story of the console: its steps, its servers and its tabs.

import { inspect } from './looks.mjs';
import { Server } from './server.mjs';
import { Tab } from './tab.mjs';

const STEP = 180_000;

export class Story {
  #browser;
  #binary;
  #servers = [];
  #contexts = [];
  #tabs = [];
  #at = 'starting';
  faults = [];

  constructor(name, browser, binary) {
    this.name = name;
    this.#browser = browser;
    this.#binary = binary;
    this.check = (good, fault) => good || this.faults.push(`${this.#at}: ${fault}`);
  }

  // Runs a part of the story that ends in bounded time.
  async step(title, action) {
    this.#at = title;
    console.log(`console: ${this.name}: ${title}`);
    let timer;
    const late = new Promise((_, failed) => {
      timer = setTimeout(() => failed(new Error(`not done within ${STEP / 1000} seconds`)), STEP);
    });
    await Promise.race([action(), late]).finally(() => clearTimeout(timer));
  }

  // Demands what the rest of the story needs.
  demand(good, fault) {
    if (!good) {
      throw new Error(fault);
    }
  }

  async server(settings) {
    const server = await Server.start(this.#binary, settings);
    this.#servers.push(server);
    return server;
  }

  // Opens a tab in a browser profile of its own.
  async tab(server, setup) {
    const context = await this.#browser.createBrowserContext();
    this.#contexts.push(context);
    await context.overridePermissions(server.origin, ['clipboard-read', 'clipboard-write', 'clipboard-sanitized-write']);
    const tab = await Tab.open(context, server, this.check, setup);
    this.#tabs.push(tab);
    return tab;
  }

  inspect(tab, view) {
    return inspect(tab, view, this.check);
  }

  async run(tell) {
    try {
      await tell(this);
      this.#tabs.forEach((it) => it.watch.end());
    } catch (error) {
      this.faults.push(`${this.#at}: ${error.message}`);
      for (const tab of this.#tabs) {
        const text = await tab.text().catch(() => '');
        this.faults.push(`${this.#at}: the page at ${tab.page.url().replace(/key=.*/, 'key=…')} shows: ${text.replace(/\s+/g, ' ').slice(0, 900)}`);
      }
    }
    await Promise.allSettled(this.#contexts.map((it) => it.close()));
    const ends = await Promise.allSettled(this.#servers.map((it) => it.end()));
    ends.filter((it) => it.reason).forEach((it) => this.faults.push(`the end: ${it.reason.message}`));
  }
}
