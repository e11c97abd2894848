"""`basicauth`: HTTP Basic authentication (RFC 7617) for clients (`client_auth`) or servers (`htpasswd`), never both.

Upstream: extension/basicauthextension of the collector's contrib; `username_file` and `password_file` are kofagent's own.
Files are read again when they change (checked at most once a second), so a rotated Secret needs no restart. If a file becomes
unreadable, its last content stays in use and the extension's status reports it. A password that was verified once is
remembered by a keyed digest, so that bcrypt does not run for every request; a changed file clears all of them.

Server: the user is added to the metadata as `auth.username`. Upstream's `raw` attribute (the password) is left out.
"""

from kofagent.extensions.basicauth.extension import BasicAuth

COMPONENT = BasicAuth
