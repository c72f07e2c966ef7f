"""The live page as somebody sees it: by roles and names, as a screen reader would tell them."""

from dataclasses import dataclass

from playwright.sync_api import Locator, Page, expect

COLUMNS = ("Circuit", "State", "Reason", "Failures", "In flight", "Latency", "Next probe")


@dataclass(frozen=True)
class LivePage:
    """What is on the page, and where."""

    page: Page

    @property
    def connection(self) -> Locator:
        """Whether the page hears of the proxy."""
        return self.page.get_by_role("status", name="Connection", exact=True)

    @property
    def table(self) -> Locator:
        """The circuits that fit the search."""
        return self.page.get_by_role("table", name="Circuits", exact=True)

    @property
    def rows(self) -> Locator:
        """Those of them that are in the document."""
        return self.table.locator("[data-key]")

    @property
    def search(self) -> Locator:
        """Where a part of a key is looked for."""
        return self.page.get_by_role("searchbox", name="Search circuits", exact=True)

    @property
    def latest(self) -> Locator:
        """The transitions of all circuits."""
        return self.page.get_by_role("region", name="Latest transitions", exact=True)

    @property
    def dialog(self) -> Locator:
        """The dialog that is open; there is never more than one."""
        return self.page.get_by_role("dialog")

    def row(self, key: str) -> Locator:
        """A circuit in the table."""
        return self.table.locator(f"[data-key='{key}']")

    def cell(self, key: str, column: str) -> Locator:
        """A cell of its row."""
        return self.row(key).get_by_role("cell").nth(COLUMNS.index(column))

    def expect_state(self, key: str, word: str) -> None:
        """Waits until a circuit is in a state."""
        expect(self.cell(key, "State").get_by_text(word, exact=True)).to_be_visible()

    def detail(self, key: str) -> Locator:
        """A circuit by itself, where it is opened."""
        return self.page.get_by_role("region", name=f"Circuit {key}", exact=True)

    def transitions(self, key: str) -> Locator:
        """Its own."""
        return self.detail(key).get_by_role("list", name="Transitions", exact=True)

    def button(self, name: str) -> Locator:
        """A button."""
        return self.page.get_by_role("button", name=name, exact=True)

    def opened(self, key: str) -> Locator:
        """Opens a circuit by the mouse."""
        self.cell(key, "Circuit").click()
        detail = self.detail(key)
        expect(detail).to_be_visible()
        return detail

    def act(self, action: str, *, for_: str | None = None, note: str = "") -> None:
        """Fills the dialog of an action of the circuit that is open, and confirms it."""
        self.button(action).click()
        if for_ is not None:
            self.dialog.get_by_label("For").fill(for_)
        self.dialog.get_by_label("Note").fill(note)
        self.dialog.get_by_role("button", name="Confirm", exact=True).click()
