// The actions on a key: the menu of a row, and what opens their dialogs.

import { html, useEffect, useRef } from './html.js';
import { openDialog } from './dialogs.js';
import { EditKey, SwitchKey } from './edit_key.js';
import { Revoke } from './revoke_key.js';
import { rights } from './rights.js';
import { Rotate } from './rotate_key.js';
import { statusOf, useId } from './ui.js';

export { EditKey, Revoke, Rotate };

// Returns the actions that this session may do with a key: `{ name, danger, open }`. `done(key)` is
// called after a change, with the changed key or with null after a revocation.
export function actionsOf(key, done) {
  const may = rights(key);
  const expired = statusOf(key, Date.now()) === 'expired';
  const opens = (Part, props) => () => openDialog((close) => html`
    <${Part} keyRecord=${key} ...${props} onClose=${(changed) => {
      close();
      if (changed !== undefined) {
        done(changed);
      }
    }} />`);
  return [
    { name: 'Rotate', shown: may.rotate && !expired, open: opens(Rotate) },
    { name: 'Edit', shown: may.edit, open: opens(EditKey) },
    { name: key.enabled ? 'Disable' : 'Enable', shown: may.edit, open: opens(SwitchKey) },
    { name: 'Revoke', shown: may.revoke, danger: true, open: opens(Revoke) },
  ].filter((it) => it.shown);
}

// The menu of a row. A popover lies above the table, which would cut off a part of its own.
export function KeyMenu({ keyRecord, reload }) {
  const id = useId('menu');
  const [button, menu] = [useRef(null), useRef(null)];
  useEffect(() => {
    const hide = () => menu.current?.matches(':popover-open') && menu.current.hidePopover();
    addEventListener('scroll', hide, { capture: true, passive: true });
    return () => removeEventListener('scroll', hide, { capture: true });
  }, []);
  const actions = actionsOf(keyRecord, reload);
  if (actions.length === 0) {
    return null;
  }
  const toggled = (event) => {
    const open = event.newState === 'open';
    button.current.setAttribute('aria-expanded', String(open));
    if (open) {
      place(menu.current, button.current);
      menu.current.querySelector('button').focus({ preventScroll: true });
    }
  };
  const choose = (action) => {
    menu.current.hidePopover();
    button.current.focus({ preventScroll: true });
    action.open();
  };
  return html`
    <button type="button" ref=${button} class="secondary menu-button" popovertarget=${id} aria-haspopup="menu"
      aria-expanded="false" aria-label=${`Actions for ${keyRecord.name}`}>⋯</button>
    <div id=${id} ref=${menu} popover="auto" role="menu" class="menu" aria-label=${`Actions for ${keyRecord.name}`}
      onToggle=${toggled} onKeyDown=${(event) => moved(event, menu.current)}>
      ${actions.map((it) => html`
        <button type="button" role="menuitem" key=${it.name} class=${it.danger ? 'bad' : ''} tabindex="-1"
          onClick=${() => choose(it)}>${it.name}…</button>`)}
    </div>`;
}

// Puts the menu below its button, or above it where there is no space.
function place(menu, button) {
  const at = button.getBoundingClientRect();
  const below = at.bottom + 4;
  const fits = below + menu.offsetHeight <= innerHeight;
  menu.style.left = `${Math.max(8, at.right - menu.offsetWidth)}px`;
  menu.style.top = `${fits ? below : Math.max(8, at.top - 4 - menu.offsetHeight)}px`;
}

// Moves the focus within the menu, as keyboards do in menus of the system.
function moved(event, menu) {
  const items = [...menu.querySelectorAll('button')];
  const at = items.indexOf(document.activeElement);
  const next = {
    ArrowDown: (at + 1) % items.length,
    ArrowUp: (at + items.length - 1) % items.length,
    Home: 0,
    End: items.length - 1,
  }[event.key];
  if (next !== undefined) {
    event.preventDefault();
    items[next].focus();
  } else if (event.key === 'Tab') {
    menu.hidePopover();
  }
}
