// The served page: texts are sent to the server that it came from, and to nobody else.

import { byId, element } from './dom.js';
import { addMaps } from './maps.js';
import { chooseDocument, content, state, writeFragment } from './state.js';
import { excerpt, wordsOf } from './words.js';

// The token that `headcount serve --host` asks for, from the address that it printed.
const TOKEN = new URLSearchParams(location.search).get('token') ?? '';

async function ask(path, body, signal) {
  let answer;
  try {
    answer = await fetch(path, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'X-Token': TOKEN },
      body: JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Error('The server does not answer. Is “headcount serve” still running?');
  }
  const result = await answer.json().catch(() => ({ error: `The server answered ${answer.status}.` }));
  if (!answer.ok) throw new Error(result.error);
  return result;
}

function settings() {
  return {
    strategy: byId('live-strategy').value,
    num_beams: Number(byId('live-beams').value),
    max_tokens: Number(byId('live-length').value),
  };
}

let earlier = new AbortController();

// Return [summary, ROUGE] of the current document without some heads. An earlier question that is
// not answered yet is taken back.
export async function summarizeWithout(run, heads) {
  const about = content.documents[state.document];
  const asked = about.settings === undefined ? {} : { settings: about.settings };
  earlier.abort();
  earlier = new AbortController();
  const body = { text: about.text, references: about.references, run, heads, ...asked };
  return ask('heads-off', body, earlier.signal);
}

// Show the text box; `onNew` is called when a text has been summarized.
export function startLive(onNew) {
  if (!content.live) return;
  byId('live').hidden = false;
  fillSettings(content.runs[0]);
  const status = byId('live-status');
  const submit = byId('live-form').querySelector('[type=submit]');
  byId('live-form').addEventListener('submit', async (event) => {
    event.preventDefault();
    const text = byId('live-text').value;
    if (text.trim() === '') {
      status.textContent = 'There is no text yet.';
      return;
    }
    submit.disabled = true;
    status.textContent = 'The model is writing …';
    const began = performance.now();
    try {
      await addText(text);
      status.textContent = `Done in ${((performance.now() - began) / 1000).toFixed(1)} s.`;
      onNew();
    } catch (error) {
      status.textContent = error.message;
    } finally {
      submit.disabled = false;
    }
  });
}

// Begin with the settings of the first run; its strategy may be one that the list lacks.
function fillSettings(run) {
  const strategy = byId('live-strategy');
  if (![...strategy.options].some((option) => option.value === run.strategy)) {
    strategy.append(element('option', {}, run.strategy));
  }
  strategy.value = run.strategy;
  byId('live-beams').value = run.beams;
  byId('live-length').value = run.length;
  byId('live-length').max = run.length;
}

// Let every run summarize a text, and make it the current document.
async function addText(text) {
  const chosen = settings();
  const number = content.documents.length;
  const { runs } = await ask('summarize', { text, settings: chosen });
  content.documents.push({
    id: `pasted: ${excerpt(text, 40)}`, references: [], text, settings: chosen,
    words: wordsOf(text).length,
  });
  runs.forEach((answer, run) => {
    const name = `maps-${run}-${number}`;
    addMaps(name, answer.packed);
    content.runs[run].documents.push({ ...answer.document, mapsName: name });
  });
  chooseDocument(number);
  writeFragment();
}
