// Texts for times, durations and numbers. Times are shown in the time zone of the browser.

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

const UNITS = [[DAY, 'day'], [HOUR, 'hour'], [MINUTE, 'minute'], [SECOND, 'second']];
const relative = new Intl.RelativeTimeFormat('en', { numeric: 'auto' });
const absolute = new Intl.DateTimeFormat('en', { dateStyle: 'medium', timeStyle: 'medium' });
const dateOnly = new Intl.DateTimeFormat('en', { dateStyle: 'medium' });
const numbers = new Intl.NumberFormat('en');

export const number = (value) => numbers.format(value);
export const plural = (count, one, many = `${one}s`) => `${number(count)} ${count === 1 ? one : many}`;
export const dateTime = (text) => absolute.format(new Date(text));
export const date = (text) => dateOnly.format(new Date(text));

// Returns a text such as "3 days ago" or "in 2 hours".
export function ago(text, now) {
  const distance = Date.parse(text) - now;
  if (Math.abs(distance) < 10 * SECOND) {
    return 'just now';
  }
  const [size, unit] = UNITS.find(([size]) => size <= Math.abs(distance));
  return relative.format(Math.round(distance / size), unit);
}

// Returns a length of time as a clock shows it: "4:31", "3:04:31", or "2 d 3 h".
export function countdown(millis) {
  const seconds = Math.max(0, Math.ceil(millis / SECOND));
  const two = (value) => String(value).padStart(2, '0');
  const [days, hours] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24];
  const [minutes, rest] = [Math.floor(seconds / 60) % 60, two(seconds % 60)];
  if (days > 0) {
    return `${days} d ${hours} h`;
  }
  return hours > 0 ? `${hours}:${two(minutes)}:${rest}` : `${minutes}:${rest}`;
}

// Returns a number of seconds in words: "5 minutes", "30 days".
export function duration(seconds) {
  if (seconds === 0) {
    return 'now';
  }
  const [size, unit] = UNITS.find(([size]) => (seconds * SECOND) % size === 0) ?? [SECOND, 'second'];
  return plural((seconds * SECOND) / size, unit);
}
