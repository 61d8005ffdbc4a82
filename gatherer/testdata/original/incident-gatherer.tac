# -*- python -*-

# we record the path when 'flogtool create-incident-gatherer' is run, in case
# flogtool was run out of a source tree. This is somewhat fragile, of course.

stashed_path = [
  '/usr/bin',
  '/usr/lib/python311.zip',
  '/usr/lib/python3.11',
  '/usr/lib/python3.11/lib-dynload',
  '/usr/local/lib/python3.11/dist-packages',
  '/usr/lib/python3/dist-packages',
]

import sys
needed = [p for p in stashed_path if p not in sys.path]
sys.path = needed + sys.path

from foolscap.logging import gatherer
from twisted.application import service

gs = gatherer.IncidentGathererService()

# To add a classifier function, store it in a neighboring file named
# classify_*.py, in a function named classify_incident(). All such files will
# be loaded at startup:
#
# % cat classify_foolscap.py
# import re
# TUBCON_RE = re.compile(r'^Tub.connectorFinished: WEIRD, <foolscap.connection.TubConnector instance at \w+> is not in \[')
# def classify_incident(trigger):
#     # match some foolscap messages
#     m = trigger.get('message', '')
#     if TUBCON_RE.search(m):
#         return 'foolscap-tubconnector'
# %

application = service.Application('incident_gatherer')
gs.setServiceParent(application)
