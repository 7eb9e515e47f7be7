// The live page. It draws each snapshot that /events sends; rates are differences of two snapshots.
'use strict';

const $ = id => document.getElementById(id);
const kept = 120; // snapshots in a chart
const history = { messages: [[], []], bytes: [[], []], sessions: [[]], lag: [[]] };
let meta = null, before = null;

// node makes an element; what it holds is text, never markup.
function node(tag, text, cls) {
  const n = document.createElement(tag);
  if (text !== undefined) n.textContent = text;
  if (cls) n.className = cls;
  return n;
}

function si(n, unit = '') {
  if (!isFinite(n)) return '–';
  const steps = ['', 'k', 'M', 'G', 'T'];
  let i = 0;
  while (Math.abs(n) >= 999.5 && i < steps.length - 1) { n /= 1000; i++; }
  const digits = i === 0 ? (n === Math.round(n) ? 0 : n < 10 ? 1 : 0) : n < 10 ? 2 : n < 100 ? 1 : 0;
  return n.toFixed(digits) + (steps[i] + unit ? ' ' + steps[i] + unit : '');
}

// address breaks, where there is no room, between host and port, and between the groups of IPv6; never within a number.
function address(text) {
  if (!/:\d+$/.test(text)) return text; // of a unix socket
  const span = node('span', undefined, 'address'), port = text.lastIndexOf(':');
  for (const part of [...text.slice(0, port).split(/(?<=:)/), text.slice(port)]) span.append(part, node('wbr'));
  return span;
}
const count = n => n.toLocaleString('en').replaceAll(',', ' ');
function time(s) {
  if (s === null || !isFinite(s)) return '–';
  if (s === 0) return '0 s';
  if (s < 1e-6) return (s * 1e9).toFixed(0) + ' ns';
  if (s < 1e-3) return (s * 1e6).toFixed(s < 1e-5 ? 1 : 0) + ' µs';
  if (s < 1) return (s * 1e3).toFixed(s < 1e-2 ? 1 : 0) + ' ms';
  if (s < 120) return s.toFixed(s < 10 ? 1 : 0) + ' s';
  if (s < 7200) return (s / 60).toFixed(0) + ' min';
  return (s / 3600).toFixed(1) + ' h';
}

// What a snapshot says: the value of a metric whose labels are these, the sum over all, and each one.
const each = (snapshot, name) => snapshot.numbers[name] || [];
const same = (n, labels) => labels.every((l, i) => n.l && n.l[i] === l);
const find = (snapshot, name, ...labels) => each(snapshot, name).find(n => same(n, labels));
const value = (snapshot, name, ...labels) => { const n = find(snapshot, name, ...labels); return n ? n.v : 0; };
const sum = (snapshot, name) => each(snapshot, name).reduce((s, n) => s + n.v, 0);
const seconds = snapshot => before ? Math.max((new Date(snapshot.at) - new Date(before.at)) / 1000, 0.001) : NaN;
const rate = (snapshot, name, ...labels) => before ?
  Math.max(0, (labels.length ? value(snapshot, name, ...labels) - value(before, name, ...labels) : sum(snapshot, name) - sum(before, name)) / seconds(snapshot)) : NaN;

// quantile of buckets; those of an earlier snapshot are subtracted. It returns the bound of the bucket, or null without anything in it.
function quantile(buckets, earlier, q) {
  if (!buckets) return null;
  const b = buckets.map((n, i) => n - (earlier ? earlier[i] : 0));
  const all = b.reduce((s, n) => s + n, 0);
  let upTo = 0;
  for (let i = 0; all > 0 && i < b.length; i++) {
    upTo += b[i];
    if (upTo >= q * all) return meta.bounds_seconds[Math.min(i, meta.bounds_seconds.length - 1)];
  }
  return null;
}

function tiles(snapshot) {
  const refused = sum(snapshot, 'servercore_refused_connections_total'), most = value(snapshot, 'servercore_sessions_max');
  const stalled = each(snapshot, 'servercore_loop_unresponsive_seconds').filter(n => n.v > 1).length;
  const list = [
    ['open sessions', count(value(snapshot, 'servercore_sessions')), most ? 'of ' + count(most) + ' at most' : 'no bound'],
    ['accepted', si(rate(snapshot, 'servercore_accepted_sessions_total'), '/s'), count(value(snapshot, 'servercore_accepted_sessions_total')) + ' in all'],
    ['ended', si(rate(snapshot, 'servercore_loop_ended_sessions_total'), '/s'), count(sum(snapshot, 'servercore_loop_ended_sessions_total')) + ' in all'],
    ['refused', si(rate(snapshot, 'servercore_refused_connections_total'), '/s'), count(refused) + ' in all'],
    ['received', si(rate(snapshot, 'servercore_loop_received_bytes_total'), 'B/s'), si(rate(snapshot, 'servercore_loop_received_messages_total')) + ' messages/s'],
    ['sent', si(rate(snapshot, 'servercore_loop_sent_bytes_total'), 'B/s'), si(rate(snapshot, 'servercore_loop_sent_messages_total')) + ' messages/s'],
    ['from Send to the kernel, p99', time(queueDelay(snapshot)), 'since the start, of one Send in 256'],
    ['stalled loops', String(stalled), 'stalls in all: ' + count(sum(snapshot, 'servercore_loop_stalls_total')), stalled > 0],
  ];
  $('tiles').replaceChildren(...list.map(([name, v, note, bad]) => {
    const t = node('div', undefined, bad ? 'tile bad' : 'tile');
    t.append(node('dt', name), node('dd', v), node('dd', note, 'note'));
    return t;
  }));
}

function queueDelay(snapshot) {
  const n = each(snapshot, 'servercore_queue_delay_seconds')[0];
  return n ? quantile(n.b, null, 0.99) : null;
}

// lag is the p99 of a loop's lag since the snapshot before; a loop that does not respond counts with the time since when.
function lag(snapshot, loop) {
  const now = find(snapshot, 'servercore_loop_lag_seconds', loop), was = before && find(before, 'servercore_loop_lag_seconds', loop);
  const p99 = now ? quantile(now.b, was && was.b, 0.99) : null;
  return Math.max(p99 || 0, value(snapshot, 'servercore_loop_unresponsive_seconds', loop));
}

function chart(id, format, ...values) {
  const lines = history[id];
  values.forEach((v, i) => { lines[i].push(isFinite(v) ? v : 0); if (lines[i].length > kept) lines[i].shift(); });
  const top = Math.max(...lines.flat(), 1e-9), ns = 'http://www.w3.org/2000/svg', shapes = [];
  const path = (d, cls) => { const p = document.createElementNS(ns, 'path'); p.setAttribute('d', d); if (cls) p.setAttribute('class', cls); return p; };
  shapes.push(path('M0 18H560'), path('M0 108H560'));
  lines.forEach((line, i) => {
    const at = (v, k) => `${(560 - (line.length - 1 - k) * 560 / (kept - 1)).toFixed(1)} ${(108 - 90 * v / top).toFixed(1)}`;
    if (line.length > 1) shapes.push(path('M' + line.map(at).join('L'), 'ab'[i]));
  });
  $(id).replaceChildren(...shapes);
  $(id).previousElementSibling.textContent = 'now ' + values.map(format).join(', ') + '; top ' + format(top) + ' in ' + time(kept * meta.interval_seconds);
}

// table fills a table. A column is [title, class]: opt for one that a phone leaves out. A cell is what it shows, or [that, class].
function table(id, columns, rows, none) {
  const head = node('thead'), tr = node('tr'), body = node('tbody');
  columns.forEach(([title, cls]) => tr.append(node('th', title, cls)));
  head.append(tr);
  rows.forEach(cells => {
    const r = node('tr');
    cells.forEach((c, i) => {
      const [text, cls] = Array.isArray(c) ? c : [c, ''];
      const td = node('td', typeof text === 'object' ? undefined : text, [columns[i][1], cls].filter(Boolean).join(' '));
      if (typeof text === 'object') td.append(text);
      r.append(td);
    });
    body.append(r);
  });
  if (!rows.length) { const r = node('tr'), td = node('td', none, 'soft none'); td.colSpan = columns.length; r.append(td); body.append(r); }
  $(id).replaceChildren(head, body);
}

function bars(id, snapshot, name, none) {
  const by = new Map();
  each(snapshot, name).forEach(n => { const l = n.l[n.l.length - 1]; by.set(l, (by.get(l) || 0) + n.v); });
  const was = new Map();
  if (before) each(before, name).forEach(n => { const l = n.l[n.l.length - 1]; was.set(l, (was.get(l) || 0) + n.v); });
  const list = [...by].filter(([, v]) => v > 0).sort((a, b) => b[1] - a[1]), most = list.length ? list[0][1] : 1;
  $(id).replaceChildren(...list.map(([label, v]) => {
    const row = node('div', undefined, 'bar'), track = node('span'), fill = node('i');
    fill.style.width = 100 * v / most + '%';
    track.append(fill);
    const per = before ? (v - (was.get(label) || 0)) / seconds(snapshot) : 0;
    row.append(node('span', label.replaceAll('_', ' ')), track, node('b', count(v) + (per > 0 ? `, ${si(per, '/s')}` : '')));
    return row;
  }), ...(list.length ? [] : [node('div', none, 'soft')]));
}

function loops(snapshot) {
  const names = ['received_messages_total', 'sent_messages_total', 'received_bytes_total', 'sent_bytes_total'].map(n => 'servercore_loop_' + n);
  table('loops', [['loop'], ['sessions'], ['messages in'], ['messages out', 'opt'], ['bytes in', 'opt'], ['bytes out', 'opt'], ['wake-ups', 'opt'], ['lag p99'], ['stalls', 'opt'], ['stalled in all', 'opt'], ['stalled for']],
    each(snapshot, 'servercore_loop_sessions').map(n => {
      const l = n.l[0], still = value(snapshot, 'servercore_loop_unresponsive_seconds', l), late = lag(snapshot, l);
      return [l, count(n.v), si(rate(snapshot, names[0], l), '/s'), si(rate(snapshot, names[1], l), '/s'), si(rate(snapshot, names[2], l), 'B/s'), si(rate(snapshot, names[3], l), 'B/s'),
        si(rate(snapshot, 'servercore_loop_wakeups_total', l), '/s'), [time(late), late > 0.1 ? 'bad' : ''], count(value(snapshot, 'servercore_loop_stalls_total', l)),
        time(value(snapshot, 'servercore_loop_stalled_seconds_total', l)), [still > 0.1 ? time(still) : 'no', still > 1 ? 'bad' : '']];
    }), 'the engine has not started');
}

// tell shows what has come of an action. A dialog would stop the page, and with it what the operator needs to see.
function tell(text, bad) {
  $('notice').textContent = text;
  $('notice').className = bad ? 'bad' : 'ok';
  $('notice').hidden = !text;
}

function sessions(id, list, snapshot, none) {
  if ($(id).matches(':active')) return; // a button that is being pressed stays where it is
  const focused = $(id).contains(document.activeElement) ? document.activeElement.dataset.session : '';
  const columns = [['id'], ['remote', 'left'], ['listener', 'left opt'], ['loop', 'opt'], ['queued'], ['received', 'opt'], ['sent', 'opt'], ['dropped', 'opt'], ['quiet for'], ['open for', 'opt'], ['', '']];
  table(id, columns, list.map(s => [count(s.id), address(s.remote || '–'), s.listener || '–', String(s.loop), si(s.pending_bytes, 'B'), si(s.bytes_in, 'B'), si(s.bytes_out, 'B'),
    [si(s.bytes_dropped, 'B'), s.bytes_dropped ? 'bad' : ''], time(Math.max(0, (new Date(snapshot.at) - new Date(s.active)) / 1000)), time((new Date(snapshot.at) - new Date(s.opened)) / 1000), action(s)]), none);
  if (focused) $(id).querySelector(`[data-session="${focused}"]`)?.focus();
}

// action is what an operator may do with a session.
function action(s) {
  if (s.ending) return node('span', 'ending', 'soft');
  if (!meta.admin) return node('span', s.paused ? 'paused' : s.slow ? 'slow' : '', 'soft');
  const b = node('button', 'disconnect');
  b.dataset.session = s.id;
  b.onclick = async () => {
    const token = $('token').value, failed = why => tell(`Session ${count(s.id)} was not disconnected: ${why}.`, true);
    if (meta.token && !token) { $('token').focus(); return failed('enter the token of Options.Token above'); }
    try {
      const r = await fetch('admin/disconnect?id=' + s.id, { method: 'POST', headers: token ? { Authorization: 'Bearer ' + token } : {} });
      if (r.ok) tell(`Session ${count(s.id)} is asked to end.`);
      else if (r.status === 401) failed('the token is wrong');
      else if (r.status === 404) failed('it has ended already');
      else failed((await r.text()).trim());
    } catch {
      failed('the server does not answer');
    }
  };
  return b;
}

function alarms(snapshot) {
  const list = [];
  if (snapshot.state === 'draining') list.push(['warn', 'The engine is draining: it accepts nothing, and sessions end.']);
  if (snapshot.state === 'ended') list.push(['bad', 'The engine has ended.']);
  each(snapshot, 'servercore_loop_unresponsive_seconds').forEach(n => {
    if (n.v > 1) list.push(['bad', `Loop ${n.l[0]} has not responded for ${time(n.v)}: a callback holds it.`]);
  });
  if (rate(snapshot, 'servercore_refused_connections_total', 'descriptors') > 0) list.push(['bad', 'Connections are shed: the process is out of descriptors.']);
  if (rate(snapshot, 'servercore_refused_connections_total', 'full') > 0) list.push(['warn', 'Connections are refused: MaxSessions is reached.']);
  $('alarms').replaceChildren(...list.map(([cls, text]) => node('li', text, cls)));
}

function all(snapshot) {
  if (!$('all').closest('details').open) return;
  const rows = [];
  meta.metrics.forEach(m => each(snapshot, m.name).forEach(n => {
    const labels = (n.l || []).map((l, i) => `${m.labels[i]}=${l}`).join(' ');
    const v = n.b ? `${count(n.b.reduce((s, x) => s + x, 0))} in ${time(n.v)}` : m.unit === 'seconds' ? time(n.v) : m.unit === 'bytes' ? si(n.v, 'B') : count(n.v);
    rows.push([m.name, labels, v, m.help]);
  }));
  table('all', [['name', 'left'], ['of', 'left'], ['value'], ['what it is', 'text opt']], rows, '');
}

function draw(snapshot) {
  $('state').textContent = snapshot.state;
  $('state').className = 'pill ' + ({ running: 'ok', ended: 'bad' }[snapshot.state] || 'warn');
  $('at').textContent = new Date(snapshot.at).toLocaleTimeString([], { hour12: false });
  alarms(snapshot);
  tiles(snapshot);
  chart('messages', v => si(v, '/s'), rate(snapshot, 'servercore_loop_received_messages_total'), rate(snapshot, 'servercore_loop_sent_messages_total'));
  chart('bytes', v => si(v, 'B/s'), rate(snapshot, 'servercore_loop_received_bytes_total'), rate(snapshot, 'servercore_loop_sent_bytes_total'));
  chart('sessions', v => count(Math.round(v)), value(snapshot, 'servercore_sessions'));
  chart('lag', time, Math.max(0, ...each(snapshot, 'servercore_loop_sessions').map(n => lag(snapshot, n.l[0]))));
  loops(snapshot);
  bars('refused', snapshot, 'servercore_refused_connections_total', 'none');
  bars('ended', snapshot, 'servercore_loop_ended_sessions_total', 'none');
  table('callbacks', [['callback'], ['timed'], ['mean'], ['p50 <', 'opt'], ['p99 <'], ['max <']], each(snapshot, 'servercore_callback_seconds').map(n => {
    const timed = n.b.reduce((s, x) => s + x, 0);
    return [n.l[0], count(timed), time(n.v / timed), time(quantile(n.b, null, 0.5)), time(quantile(n.b, null, 0.99)), time(quantile(n.b, null, 1))];
  }), 'none was called');
  table('listeners', [['address', 'left'], ['open'], ['accepted'], ['refused'], ['received', 'opt'], ['sent', 'opt']], each(snapshot, 'servercore_listener_sessions').map(n => {
    const l = n.l[0];
    const refused = each(snapshot, 'servercore_listener_refused_connections_total').filter(r => r.l[0] === l).reduce((s, r) => s + r.v, 0);
    const name = node('span');
    name.append(address(l), value(snapshot, 'servercore_listener_listening', l) ? '' : ' (closed)');
    return [name, count(n.v), count(value(snapshot, 'servercore_listener_accepted_sessions_total', l)), count(refused),
      si(value(snapshot, 'servercore_listener_received_bytes_total', l), 'B'), si(value(snapshot, 'servercore_listener_sent_bytes_total', l), 'B')];
  }), 'none');
  sessions('fattest', snapshot.fattest, snapshot, 'none has bytes queued');
  sessions('slowest', snapshot.slowest, snapshot, 'none');
  table('closed', [['id'], ['remote', 'left'], ['listener', 'left opt'], ['reason', 'text'], ['open for'], ['received', 'opt'], ['sent', 'opt'], ['dropped', 'opt']], snapshot.closed.map(c =>
    [count(c.id), address(c.remote || '–'), c.listener || '–', c.reason || c.cause, time(c.duration_seconds), si(c.bytes_in, 'B'), si(c.bytes_out, 'B'), [si(c.bytes_dropped, 'B'), c.bytes_dropped ? 'bad' : '']]), 'none');
  all(snapshot);
  before = snapshot;
}

async function start() {
  try {
    meta = await (await fetch('meta')).json();
  } catch (e) {
    setTimeout(start, 2000);
    return;
  }
  $('ask').hidden = !meta.token;
  const events = new EventSource('events'); // it connects again by itself
  events.onmessage = e => draw(JSON.parse(e.data));
  events.onerror = () => { $('state').textContent = 'no connection'; $('state').className = 'pill bad'; };
}

start();
