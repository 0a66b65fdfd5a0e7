// The memory of the scripts of a tab.

// What this script refers to itself, such as an element that it pressed.
const OWN = 'DevTools console';

// Returns whether the scripts of the page can still reach a text.
export async function isInMemory({ page }, text) {
  const inspector = await page.createCDPSession();
  const parts = [];
  inspector.on('HeapProfiler.addHeapSnapshotChunk', ({ chunk }) => parts.push(chunk));
  await inspector.send('HeapProfiler.enable');
  await inspector.send('HeapProfiler.collectGarbage');
  await inspector.send('HeapProfiler.takeHeapSnapshot', { reportProgress: false });
  await inspector.detach();
  return isReachable(JSON.parse(parts.join('')), text);
}

// A snapshot is a graph in flat lists of numbers, each with so many for a node or an edge.
function isReachable({ snapshot: { meta }, nodes, edges, strings }, text) {
  const [perNode, perEdge] = [meta.node_fields.length, meta.edge_fields.length];
  const [name, edgeCount] = ['name', 'edge_count'].map((it) => meta.node_fields.indexOf(it));
  const [type, label, target] = ['type', 'name_or_index', 'to_node'].map((it) => meta.edge_fields.indexOf(it));
  const types = meta.edge_types[type];
  const numbered = ['element', 'hidden'].map((it) => types.indexOf(it));
  const starts = [0];
  for (let node = 0; node < nodes.length; node += perNode) {
    starts.push(starts.at(-1) + nodes[node + edgeCount] * perEdge);
  }
  const [seen, waiting] = [new Set([0]), [0]];
  for (let node = waiting.pop(); node !== undefined; node = waiting.pop()) {
    if (strings[nodes[node + name]].includes(text)) {
      return true;
    }
    for (let edge = starts[node / perNode]; edge < starts[node / perNode + 1]; edge += perEdge) {
      const own = !numbered.includes(edges[edge + type]) && strings[edges[edge + label]].includes(OWN);
      const to = edges[edge + target];
      if (!own && types[edges[edge + type]] !== 'weak' && !seen.has(to)) {
        seen.add(to);
        waiting.push(to);
      }
    }
  }
  return false;
}
