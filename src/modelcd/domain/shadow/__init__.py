"""The verdict on a shadow: a version that answers a copy of the champion's requests, and whose answers nobody gets.

Both answer the same request, so the two are compared pair by pair (`judge`), which takes far fewer requests than two
arms do.  What is watched are means of bounded values (`means`), of pairs that were read and checked (`pairs`).
"""
