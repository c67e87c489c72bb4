"""What traces tell, as a page of HTML: `tell` reads them, `ladder_svg` draws the messages, `report_page` is all of it.

page = report_page([read_trace("left.jsonl"), read_trace("right.jsonl")])
"""

from ice_tcp.report.ladder import Lines, ladder_svg
from ice_tcp.report.page import report_page
from ice_tcp.report.story import PairTold, Side, StoryError, tell
from ice_tcp.report.style import LADDER_STYLE

__all__ = ["LADDER_STYLE", "Lines", "PairTold", "Side", "StoryError", "ladder_svg", "report_page", "tell"]
