// Light and dark: the system's choice, until the button changes it.

const dark = matchMedia('(prefers-color-scheme: dark)');

export const isDark = () => (document.documentElement.dataset.theme ?? (dark.matches ? 'dark' : 'light')) === 'dark';

/** Connects the button; `changed` is called after every change. */
export function theme(button, changed) {
  const show = () => {
    button.setAttribute('aria-pressed', isDark());
    changed();
  };
  button.addEventListener('click', () => {
    document.documentElement.dataset.theme = isDark() ? 'light' : 'dark';
    show();
  });
  dark.addEventListener('change', show);
  show();
}

/** The value of a colour of the style sheet. */
export const colour = name => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
