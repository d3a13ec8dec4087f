"""The page of components: everything that the pages are made of, with made-up values, for those who design one."""

from starlette.responses import Response

from service.console.http import Page
from service.console.visit import Visit


class Components:
    """``/console/components``."""

    def pages(self) -> list[Page]:
        return [Page("GET", "/console/components", self.show, None, None)]

    async def show(self, visit: Visit) -> Response:
        """All components."""
        return visit.render("components.html", verdicts=("unverified", "open", "settling", "complete", "drifted"))
