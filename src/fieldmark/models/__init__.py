"""Networks: backbones behind one interface, heads, the catalog and weight loading.

Nothing is imported here, so that `fieldmark.models.catalog` answers without torch.
"""
