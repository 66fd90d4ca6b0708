"""A file opened in the browser, with all that went wrong and all that was asked of the network meanwhile."""

from pathlib import Path


class Visit:
    """A page that was opened, with all that went wrong and all that was asked of the network meanwhile."""

    def __init__(self, browser, path, width=1280, scheme="light"):
        # the page's own content policy would forbid axe to be added; that it holds is tested by itself
        self._context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
        )
        self.page, self.errors, self.requests = self._context.new_page(), [], []
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(Path(path).resolve().as_uri())

    def serious(self, axe):
        """Serious and critical findings of axe-core, each with the first place it was found at."""
        self.page.evaluate(axe)
        found = self.page.evaluate("axe.run(document).then(results => results.violations)")
        return [
            f"{finding['id']}: {finding['nodes'][0]['html'][:160]}"
            for finding in found
            if finding["impact"] in ("serious", "critical")
        ]

    def overflow(self):
        """How many pixels the page itself is wider than the screen."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")

    def close(self):
        self._context.close()
