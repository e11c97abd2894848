"""`basicauth`: HTTP Basic authentication (RFC 7617) for clients (`client_auth`) or servers (`htpasswd`), never both.

Upstream: extension/basicauthextension of the collector's contrib; `username_file` and `password_file` are kofagent's own.
Files are read again when they change (checked at most once a second), so a rotated Secret needs no restart. A file that
becomes unreadable keeps its last content and is reported as the extension's status. A password that was once found right is
remembered by a keyed digest, so that bcrypt is not paid per request; a changed file forgets all of them.

Server: the user is added to the metadata as `auth.username`. Upstream's `raw` attribute (the password) is left out.
"""

from kofagent.extensions.basicauth.extension import BasicAuth

COMPONENT = BasicAuth
