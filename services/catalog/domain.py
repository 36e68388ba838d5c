"""The rules of products: what may change, and what a change leaves behind.

Decisions are pure functions: they take a product as it stands, locked, and the database's present time, and return the
product as it will stand, or raise the refusal.
"""

import datetime as dt
from dataclasses import dataclass, replace
from enum import Enum
from uuid import UUID

from services.common.values import DomainError, ErrorKind, Money


class ProductState(Enum):
    """Whether a product can be bought. ARCHIVED is for good."""

    ACTIVE = "ACTIVE"
    ARCHIVED = "ARCHIVED"


@dataclass(frozen=True, slots=True)
class Product:
    """Something that the shop sells. Its version counts its changes, from 1."""

    product_id: UUID
    sku: str
    title: str
    description: str
    category: str
    list_price: Money
    state: ProductState
    version: int
    create_time: dt.datetime
    update_time: dt.datetime

    @property
    def etag(self) -> str:
        """What a caller sends back to change only what it has seen. Opaque: its form may change."""
        return f"v{self.version}"


@dataclass(frozen=True, slots=True)
class CreateProduct:
    """Begin to sell something; without an id the catalog chooses one."""

    product_id: UUID | None
    sku: str
    title: str
    description: str
    category: str
    list_price: Money


@dataclass(frozen=True, slots=True)
class UpdateProduct:
    """Change what is not None. An empty etag: whatever the product's version is."""

    product_id: UUID
    etag: str
    title: str | None
    description: str | None
    category: str | None
    list_price: Money | None


@dataclass(frozen=True, slots=True)
class ArchiveProduct:
    """Take a product out of sale. An empty etag: whatever the product's version is."""

    product_id: UUID
    etag: str


class CatalogError(DomainError):
    """The base of what the catalog refuses."""

    service = "catalog"


class ProductNotFoundError(CatalogError):
    """No product has this id."""

    kind, reason = ErrorKind.NOT_FOUND, "PRODUCT_NOT_FOUND"

    def __init__(self, product_id: UUID) -> None:
        """Name the product."""
        super().__init__(f"There is no product {product_id}.", product_id=str(product_id))


class SkuTakenError(CatalogError):
    """Another product has this SKU."""

    kind, reason = ErrorKind.REFUSED, "SKU_TAKEN"

    def __init__(self, sku: str) -> None:
        """Name the SKU."""
        super().__init__(f"Another product has the SKU {sku}.", sku=sku)


class ProductIdTakenError(CatalogError):
    """Another request created a product with this id."""

    kind, reason = ErrorKind.REFUSED, "PRODUCT_ID_TAKEN"

    def __init__(self, product_id: UUID) -> None:
        """Name the product."""
        super().__init__(f"Another request created the product {product_id}.", product_id=str(product_id))


class ProductArchivedError(CatalogError):
    """The product is archived and does not change any more."""

    kind, reason = ErrorKind.REFUSED, "PRODUCT_ARCHIVED"

    def __init__(self, product_id: UUID) -> None:
        """Name the product."""
        super().__init__(f"The product {product_id} is archived.", product_id=str(product_id))


class EtagMismatchError(CatalogError):
    """The product changed since the caller read it."""

    kind, reason = ErrorKind.LOST_UPDATE, "ETAG_MISMATCH"

    def __init__(self, product: Product) -> None:
        """State the present etag."""
        super().__init__(
            f"The product {product.product_id} changed since; read it again.",
            product_id=str(product.product_id),
            etag=product.etag,
        )


def update(found: Product | None, command: UpdateProduct, now: dt.datetime) -> Product:
    """Return the product after an update. One that changes nothing leaves version and time as they are.

    Raises ProductNotFoundError, ProductArchivedError, EtagMismatchError.
    """
    product = _existing(found, command.product_id)
    if product.state is ProductState.ARCHIVED:
        raise ProductArchivedError(product.product_id)
    _require_etag(product, command.etag)
    wanted = replace(
        product,
        title=product.title if command.title is None else command.title,
        description=product.description if command.description is None else command.description,
        category=product.category if command.category is None else command.category,
        list_price=product.list_price if command.list_price is None else command.list_price,
    )
    return product if wanted == product else _next_version(wanted, now)


def archive(found: Product | None, command: ArchiveProduct, now: dt.datetime) -> Product:
    """Return the product after it was taken out of sale. An archived one stays as it is, whatever the etag.

    Raises ProductNotFoundError, EtagMismatchError.
    """
    product = _existing(found, command.product_id)
    if product.state is ProductState.ARCHIVED:
        return product
    _require_etag(product, command.etag)
    return _next_version(replace(product, state=ProductState.ARCHIVED), now)


def _existing(found: Product | None, product_id: UUID) -> Product:
    if found is None:
        raise ProductNotFoundError(product_id)
    return found


def _require_etag(product: Product, etag: str) -> None:
    if etag and etag != product.etag:
        raise EtagMismatchError(product)


def _next_version(product: Product, now: dt.datetime) -> Product:
    return replace(product, version=product.version + 1, update_time=now)
