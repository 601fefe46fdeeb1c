"""What a reader of a page sees and reaches, asked of a real browser."""


def luminance(page):
    """Of the page's own background, 0 to 255."""
    red, green, blue = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")[:3]
    return (red + green + blue) / 3


def contrast(page, selector):
    """WCAG's ratio of text to background of the first such element; 4.5 is what small text needs."""
    return page.locator(selector).first.evaluate(
        """element => {
            const channels = text => text.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
                .map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
            let behind = element;
            const clear = node => (channels(getComputedStyle(node).backgroundColor)[3] ?? 1) === 0;
            while (clear(behind) && behind.parentElement) behind = behind.parentElement;
            const pair = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor];
            const [low, high] = pair.map(channels).map(light).sort((a, b) => a - b);
            return (high + 0.05) / (low + 0.05);
        }"""
    )


def tab_to(page, selector, most=80):
    """Press Tab until an element within `selector` has the focus, and shows it."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.closest(selector) !== null", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    raise AssertionError(f"{selector} is not reached by {most} presses of Tab")


def width(page):
    """Of the whole document, in pixels: more than the window where something does not fit."""
    return page.evaluate("document.documentElement.scrollWidth")
