// What the browser does by itself: keys, light and dark, hover play, copying.
(() => {
  const THEME = 'wgp-theme';

  const applyTheme = () => {
    const chosen = localStorage.getItem(THEME);
    if (chosen) document.body.classList.toggle('dark', chosen === 'dark');
  };

  // A key that is held down presses once: every press adds a video.
  document.addEventListener('keydown', event => {
    const presses = event.ctrlKey || event.metaKey || event.target.closest('button');
    if (!event.repeat || event.key !== 'Enter' || !presses) return;
    event.stopImmediatePropagation();
    event.preventDefault();
  }, true);

  document.addEventListener('keydown', event => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
    const generate = document.querySelector('#generate');
    if (!generate || !event.target.closest('#form')) return;
    event.preventDefault();
    generate.click();
  });

  // Asked before any other listener hears of the click.
  document.addEventListener('click', event => {
    if (!event.target.closest('#queue-clear')) return;
    if (window.confirm('Take every waiting video off the queue?')) return;
    event.stopImmediatePropagation();
    event.preventDefault();
  }, true);

  document.addEventListener('click', event => {
    if (event.target.closest('[data-theme-switch]')) {
      const dark = !document.body.classList.contains('dark');
      localStorage.setItem(THEME, dark ? 'dark' : 'light');
      applyTheme();
    }
    const copy = event.target.closest('[data-copy]');
    if (copy) {
      navigator.clipboard.writeText(copy.dataset.copy);
      copy.textContent = 'Copied';
    }
  });

  // On a phone the running video is far below the button.
  document.addEventListener('click', event => {
    if (!event.target.closest('#generate') || window.innerWidth > 760) return;
    setTimeout(() => {
      if (document.querySelector('#problems .problems')) return;
      document.querySelector('#stage').scrollIntoView({behavior: 'smooth'});
    }, 700);
  });

  for (const [name, act] of [['mouseover', 'play'], ['mouseout', 'pause']]) {
    document.addEventListener(name, event => {
      const tile = event.target.closest && event.target.closest('.tile');
      if (!tile || tile.contains(event.relatedTarget)) return;
      const done = tile.querySelector('video')[act]();
      if (done) done.catch(() => {});
    });
  }

  // The tab's title tells how far the running video is.
  setInterval(() => {
    const card = document.querySelector('#progress .card.running');
    const title = card ? `${card.dataset.percent} % · wgp` : 'wgp';
    if (document.title !== title) document.title = title;
  }, 1000);

  // Gradio sets the class when it mounts; the choice made here wins.
  document.addEventListener('DOMContentLoaded', () => {
    applyTheme();
    const seen = new MutationObserver(applyTheme);
    seen.observe(document.body, {attributes: true, attributeFilter: ['class']});
  });
})();
