// The list of LoRAs in the form, and the browser of files. All text from outside goes
// through textContent, never into HTML. The value is {family, rows}; see lora_rows.py.
const root = element.querySelector('.loras');
let files = null;      // what the server told of each file
let filesOf = '';      // for which family
let open = false;      // whether the browser is shown
let wanted = '';       // what is searched for
let folder = '';       // the folder that is shown; empty for all
let dragged = -1;

const value = () => props.value || {family: '', rows: []};

function make(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, set] of Object.entries(options)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), set);
    else if (key === 'text') made.textContent = set;
    else if (set !== false && set !== null) made.setAttribute(key, set === true ? '' : set);
  }
  made.append(...children.filter(Boolean));
  return made;
}

function button(label, title, act) {
  return make('button', {
    type: 'button', class: title ? 'act icon' : 'act', title: title || label,
    'aria-label': title || label, text: label, onclick: act,
  });
}

function change(rows, redraw = true) {
  props.value = {...value(), rows};
  if (redraw) draw();
}

function edit(index, values, redraw = true) {
  change(value().rows.map((row, at) => at === index ? {...row, ...values} : row), redraw);
}

function move(from, to) {
  const rows = [...value().rows];
  if (to < 0 || to >= rows.length || from === to) return;
  rows.splice(to, 0, ...rows.splice(from, 1));
  change(rows);
}

const told = name => (files || []).find(file => file.name === name);
const ending = name => name.slice(name.lastIndexOf('/') + 1).replace(/\.[^.]+$/, '');
const folderOf = name => name.includes('/') ? name.slice(0, name.lastIndexOf('/')) : '';

function addWords(words) {
  const prompt = document.querySelector('#field-prompt textarea');
  if (!prompt || prompt.value.includes(words)) return;
  prompt.value = prompt.value ? `${prompt.value.trimEnd()}, ${words}` : words;
  prompt.dispatchEvent(new Event('input', {bubbles: true}));
}

function row(each, index) {
  const about = told(each.name);
  const line = make('div', {
    class: `lora ${each.on ? '' : 'off'} ${each.problem ? 'missing' : ''}`,
    draggable: 'true', 'data-name': each.name,
    ondragstart: event => { dragged = index; event.dataTransfer.effectAllowed = 'move'; },
    ondragover: event => event.preventDefault(),
    ondrop: event => { event.preventDefault(); move(dragged, index); },
  },
    make('span', {class: 'grip', title: 'Drag to reorder', 'aria-hidden': 'true', text: '⠿'}),
    checkbox(each, index),
    make('span', {class: 'name', title: each.name, text: ending(each.name)},
      about && about.base ? make('small', {text: about.base}) : null),
    strength(each, index),
    make('span', {class: 'acts'},
      button('↑', 'Move up', () => move(index, index - 1)),
      button('↓', 'Move down', () => move(index, index + 1)),
      button('✕', 'Remove', () => change(value().rows.filter((_, at) => at !== index)))));
  if (each.problem) line.append(trouble(each, index));
  else if (about && about.words) line.append(words(about.words));
  return line;
}

function checkbox(each, index) {
  const box = make('input', {
    type: 'checkbox', 'aria-label': `Use ${each.name}`,
    onchange: event => edit(index, {on: event.target.checked}),
  });
  box.checked = each.on;
  return box;
}

function strength(each, index) {
  const input = make('input', {
    type: 'text', class: 'strength', 'aria-label': `Strength of ${each.name}`,
    title: 'A number or a schedule, such as 0.8 or 1,0.5', spellcheck: 'false',
    oninput: event => edit(index, {multiplier: event.target.value}, false),
    // Dragging would begin where text is selected.
    onfocus: event => { event.target.closest('.lora').draggable = false; },
    onblur: event => { event.target.closest('.lora').draggable = true; },
  });
  input.value = each.multiplier;
  return input;
}

function trouble(each, index) {
  return make('p', {class: 'trouble'},
    make('span', {text: `${each.name} is ${each.problem}.`}),
    each.closest ? make('button', {
      type: 'button', class: 'act', text: `Use ${each.closest}`,
      onclick: () => edit(index, {name: each.closest, problem: '', closest: '', on: true}),
    }) : null);
}

const words = text => make('p', {class: 'words'},
  make('span', {text: `Trigger words: ${text}`}),
  button('Add to the prompt', '', () => addWords(text)));

function add(name) {
  const rows = value().rows;
  if (rows.some(each => each.name === name)) return;
  change([...rows, {name, multiplier: '1', on: true, problem: '', closest: ''}]);
}

async function look(again = false) {
  if (!again && files && filesOf === value().family) return;
  filesOf = value().family;
  files = null;
  draw();
  const asked = filesOf;
  const found = await server.list_files(asked);
  if (asked !== filesOf) return;
  files = found;
  draw();
}

function folders() {
  const counts = new Map();
  for (const file of files) {
    const parts = folderOf(file.name).split('/').filter(Boolean);
    for (let depth = 1; depth <= parts.length; depth++) {
      const path = parts.slice(0, depth).join('/');
      counts.set(path, (counts.get(path) || 0) + 1);
    }
  }
  if (!counts.size) return null;
  const entry = (path, label, count, depth) => make('button', {
    type: 'button', class: path === folder ? 'chosen' : '', style: `padding-left: ${8 + depth * 12}px`,
    'data-folder': path, onclick: () => { folder = path; draw(); },
  }, make('span', {text: label}), make('small', {text: count}));
  return make('nav', {class: 'folders'}, entry('', 'All', files.length, 0),
    ...[...counts].sort(([one], [other]) => one.localeCompare(other)).map(([path, count]) =>
      entry(path, path.slice(path.lastIndexOf('/') + 1), count, path.split('/').length - 1)));
}

function isShown(file) {
  if (folder && folderOf(file.name) !== folder && !file.name.startsWith(`${folder}/`)) return false;
  const text = `${file.name} ${file.words} ${file.notes} ${file.base} ${file.kind}`.toLowerCase();
  return wanted.toLowerCase().split(/\s+/).every(word => text.includes(word));
}

function tile(file) {
  const chosen = value().rows.some(each => each.name === file.name);
  return make('div', {class: `found ${file.refusal ? 'unfit' : ''}`, 'data-name': file.name},
    file.picture ? make('img', {src: file.picture, alt: ''})
      : make('span', {class: 'blank', 'aria-hidden': 'true', text: ending(file.name).slice(0, 1).toUpperCase()}),
    make('div', {class: 'about'},
      make('strong', {text: ending(file.name), title: file.name}),
      make('span', {class: 'facts', text: [file.base, file.kind, folderOf(file.name)].filter(Boolean).join(' · ')}),
      file.words ? make('span', {class: 'facts', text: `Trigger words: ${file.words}`}) : null,
      file.notes ? make('span', {class: 'facts notes', text: file.notes, title: file.notes}) : null,
      file.refusal ? make('span', {class: 'error', text: file.refusal}) : null),
    file.refusal ? null : make('button', {
      type: 'button', class: 'act', disabled: chosen, text: chosen ? 'Added' : 'Add',
      'aria-label': `Add ${file.name}`, onclick: () => add(file.name),
    }));
}

function found() {
  if (!files) return make('p', {class: 'note', text: 'Looking at the files…'});
  const shown = files.filter(isShown);
  if (!files.length) {
    return make('p', {class: 'note', text: `No files yet. Put them into loras/${value().family}/ of the data folder.`});
  }
  const most = 200;
  const list = make('div', {class: 'results'}, ...shown.slice(0, most).map(tile));
  if (!shown.length) list.append(make('p', {class: 'note', text: 'Nothing is called so.'}));
  if (shown.length > most) list.append(make('p', {class: 'note', text: `and ${shown.length - most} more: search for them`}));
  return list;
}

function browser() {
  const search = make('input', {
    type: 'search', class: 'search', placeholder: 'Search names, trigger words, notes',
    'aria-label': 'Search LoRAs',
    oninput: event => { wanted = event.target.value; drawFound(); },
  });
  search.value = wanted;
  return make('div', {class: 'browser'},
    make('div', {class: 'searching'}, search,
      button('↻', 'Look again', () => look(true))),
    make('div', {class: 'shelves'}, files ? folders() : null, make('div', {class: 'shelf'}, found())));
}

function drawFound() {
  root.querySelector('.shelf').replaceChildren(found());
}

function draw() {
  const rows = value().rows.map(row);
  const scrolled = root.querySelector('.results')?.scrollTop || 0;
  root.replaceChildren(
    ...rows,
    ...(rows.length ? [] : [make('p', {class: 'note', text: 'None chosen.'})]),
    make('div', {class: 'choose'}, make('button', {
      type: 'button', class: 'act', 'aria-expanded': open, text: open ? 'Close the list' : 'Choose LoRAs',
      onclick: () => { open = !open; draw(); if (open) look(); },
    })),
    ...(open ? [browser()] : []));
  const list = root.querySelector('.results');
  if (list) list.scrollTop = scrolled;
}

watch('value', () => {
  if (filesOf !== value().family) { folder = ''; files = null; }
  draw();
  if (open || value().rows.length) look();
});
draw();
if (value().rows.length) look();
