"""How well the text of a page can be read: the contrast of each text with what is behind it, as WCAG 2 defines it."""

MEASURE = """() => {
  const pen = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
    .getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return [...pen.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, below) => below.map((value, i) => (top[i] * top[3] + value * (255 - top[3])) / 255);
  const ground = (element) => element
    ? over(rgba(getComputedStyle(element).backgroundColor), ground(element.parentElement)) : [255, 255, 255];
  const light = (colour) => colour.map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
  const texts = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (!text || !element.checkVisibility({ visibilityProperty: true, opacityProperty: true })) continue;
    if (element.closest("script, style, :disabled, [aria-hidden=true]")) continue;
    const style = getComputedStyle(element), behind = ground(element);
    const [low, high] = [light(over(rgba(style.color), behind)), light(behind)].sort((a, b) => a - b);
    const size = parseFloat(style.fontSize), bold = style.fontWeight >= 700;
    const needed = size >= 24 || (bold && size >= 18.66) ? 3 : 4.5;
    const ratio = (high + 0.05) / (low + 0.05);
    texts.push({ ratio, needed, text: text.slice(0, 40), place: element.className || element.tagName });
  }
  return texts;
}"""


def contrasts(page):
    """The contrast of every visible text of a page, lowest first: dicts with ratio, needed (4.5; large text 3), text.

    Pictures behind text are not looked at. What cannot be used just now (disabled) needs no contrast.
    """
    return sorted(page.evaluate(MEASURE), key=lambda text: text["ratio"])


def too_pale(page):
    """The texts of a page whose contrast is lower than needed, each once: (ratio, text, class)."""
    pale = [text for text in contrasts(page) if text["ratio"] < text["needed"] - 0.005]
    return sorted({(round(text["ratio"], 2), text["text"], str(text["place"])) for text in pale})
