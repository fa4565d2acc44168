// Finding and writing nodes. Data reaches the page as text only, never as markup.

/** Returns the node with that `data-testid`; the page's markup and its script belong together, so absence is a defect. */
export function part<T extends Element>(root: ParentNode, testId: string, type: new () => T): T {
  const node = root.querySelector(`[data-testid="${testId}"]`);
  if (node instanceof type) return node;
  throw new Error(`no ${type.name} with data-testid="${testId}"`);
}

/** Sets the text, where it changed: a write costs a layout, a comparison doesn't. */
export function setText(node: Element, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets the attribute, where it changed. */
export function setAttribute(node: Element, name: string, value: string): void {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}
