// The served page: sends texts to the server that the page comes from, and to no other.

import { byId, element } from './dom.js';
import { addMaps } from './maps.js';
import { chooseDocument, content, state, writeFragment } from './state.js';
import { excerpt, wordsOf } from './words.js';

// The token that `headcount serve --host` requires; it is part of the address that the user opened.
const TOKEN = new URLSearchParams(location.search).get('token') ?? '';

// Send a JSON object to the server and return its answer. An Error has a message for the user.
async function post(path, body, signal) {
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

let pending = new AbortController(); // of the latest request

// Return [summary, ROUGE] of the current document without some heads. An earlier request that is not
// answered yet is aborted.
export async function summarizeWithout(run, heads) {
  const about = content.documents[state.document];
  const settingsOfText = about.settings === undefined ? {} : { settings: about.settings };
  pending.abort();
  pending = new AbortController();
  const body = { text: about.text, references: about.references, run, heads, ...settingsOfText };
  return post('heads-off', body, pending.signal);
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
    status.textContent = 'Generating the summary …';
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

// Fill in the settings of the first run; the list may lack its strategy.
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
  const { runs } = await post('summarize', { text, settings: chosen });
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
