"""The document as pages and files to be served. Start at :mod:`moda.asyncapi.pages.site`."""
