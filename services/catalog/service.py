"""The catalog's RPCs: a request becomes a command, the store decides it, and its verdict becomes the response."""

from uuid import UUID

from libretto.catalog.v1 import catalog_service_pb2 as pb
from libretto.catalog.v1 import catalog_service_pb2_grpc, product_pb2

from services.catalog.domain import ArchiveProduct, CreateProduct, Product, ProductNotFoundError, UpdateProduct
from services.catalog.store import LIST_START, SEARCH_START, CatalogStore, RankPosition, TitlePosition
from services.common.errors import to_status
from services.common.fields import Fields, money_message, time_message
from services.common.idempotency import Fingerprints
from services.common.layers import Context
from services.common.pages import parse_page

_BATCH_LIMIT = 64
_TITLE_LIMIT = 200
_DESCRIPTION_LIMIT = 4_000
_CATEGORY_LIMIT = 50
_ETAG_LIMIT = 64
_QUERY_LIMIT = 200


class CatalogServicer(catalog_service_pb2_grpc.CatalogServiceServicer):
    """Answers for products, as the contract says."""

    def __init__(self, store: CatalogStore, fingerprints: Fingerprints) -> None:
        """Keep rows in a store, and recognise requests by their fingerprints."""
        self._store, self._fingerprints = store, fingerprints

    async def GetProduct(self, request: pb.GetProductRequest, context: Context) -> pb.GetProductResponse:
        """Read one product."""
        with Fields() as fields:
            product_id = fields.uuid("product_id", request.product_id)
        product = (await self._store.products([product_id])).get(product_id)
        if product is None:
            raise ProductNotFoundError(product_id)
        return pb.GetProductResponse(product=product_message(product))

    async def BatchGetProducts(
        self, request: pb.BatchGetProductsRequest, context: Context
    ) -> pb.BatchGetProductsResponse:
        """Read several products, a result each."""
        with Fields() as fields:
            items = enumerate(fields.each("product_ids", request.product_ids, at_most=_BATCH_LIMIT))
            product_ids = [fields.uuid(f"product_ids[{index}]", text) for index, (_, text) in items]
        products = await self._store.products(product_ids)
        return pb.BatchGetProductsResponse(results=[_batch_result(key, products.get(key)) for key in product_ids])

    async def ListProducts(self, request: pb.ListProductsRequest, context: Context) -> pb.ListProductsResponse:
        """List active products."""
        with Fields() as fields:
            category = fields.text("category", request.category, at_most=_CATEGORY_LIMIT, required=False)
            filters = ("products", category)
            page = parse_page(fields, request.page_size, request.page_token, key_length=2, filters=filters)
            after = page.position(fields, _list_position, LIST_START)
        products = await self._store.list_active(category, after, page.size + 1)
        shown, next_page_token = page.cut(products, lambda product: (product.title, str(product.product_id)))
        return pb.ListProductsResponse(products=map(product_message, shown), next_page_token=next_page_token)

    async def SearchProducts(self, request: pb.SearchProductsRequest, context: Context) -> pb.SearchProductsResponse:
        """Find active products by words."""
        with Fields() as fields:
            query = fields.text("query", request.query, at_most=_QUERY_LIMIT)
            page = parse_page(fields, request.page_size, request.page_token, key_length=2, filters=("search", query))
            after = page.position(fields, _search_position, SEARCH_START)
        found = await self._store.search(query, after, page.size + 1)
        shown, next_page_token = page.cut(found, lambda item: (repr(item.rank), str(item.product.product_id)))
        return pb.SearchProductsResponse(
            products=[product_message(item.product) for item in shown], next_page_token=next_page_token
        )

    async def CreateProduct(self, request: pb.CreateProductRequest, context: Context) -> pb.CreateProductResponse:
        """Create a product."""
        keyed = self._fingerprints.keyed(request.request_id, _parse_creation(request))
        (verdict,) = await self._store.create([keyed], _write_created)
        return verdict.parse(pb.CreateProductResponse)

    async def UpdateProduct(self, request: pb.UpdateProductRequest, context: Context) -> pb.UpdateProductResponse:
        """Change a product."""
        keyed = self._fingerprints.keyed(request.request_id, _parse_update(request))
        (verdict,) = await self._store.update([keyed], _write_updated)
        return verdict.parse(pb.UpdateProductResponse)

    async def ArchiveProduct(self, request: pb.ArchiveProductRequest, context: Context) -> pb.ArchiveProductResponse:
        """Take a product out of sale."""
        keyed = self._fingerprints.keyed(request.request_id, _parse_archival(request))
        (verdict,) = await self._store.archive([keyed], _write_archived)
        return verdict.parse(pb.ArchiveProductResponse)


def product_message(product: Product) -> product_pb2.Product:
    """Write a product."""
    return product_pb2.Product(
        product_id=str(product.product_id),
        sku=product.sku,
        title=product.title,
        description=product.description,
        category=product.category,
        list_price=money_message(product.list_price),
        state=product_pb2.ProductState.Value(f"PRODUCT_STATE_{product.state.name}"),
        etag=product.etag,
        create_time=time_message(product.create_time),
        update_time=time_message(product.update_time),
    )


def _write_created(product: Product) -> pb.CreateProductResponse:
    return pb.CreateProductResponse(product=product_message(product))


def _write_updated(product: Product) -> pb.UpdateProductResponse:
    return pb.UpdateProductResponse(product=product_message(product))


def _write_archived(product: Product) -> pb.ArchiveProductResponse:
    return pb.ArchiveProductResponse(product=product_message(product))


def _batch_result(product_id: UUID, product: Product | None) -> pb.BatchGetProductsResult:
    if product is None:
        return pb.BatchGetProductsResult(status=to_status(ProductNotFoundError(product_id)))
    return pb.BatchGetProductsResult(product=product_message(product))


def _list_position(title: str, product_id: str) -> TitlePosition:
    return title, UUID(product_id)


def _search_position(rank: str, product_id: str) -> RankPosition:
    return float(rank), UUID(product_id)


def _parse_creation(request: pb.CreateProductRequest) -> CreateProduct:
    with Fields() as fields:
        fields.request_id(request.request_id)
        return CreateProduct(
            product_id=fields.optional_uuid("product_id", request.product_id),
            sku=fields.sku("sku", request.sku),
            title=_title(fields, request.title),
            description=_description(fields, request.description),
            category=_category(fields, request.category),
            list_price=fields.money("list_price", request.list_price, present=request.HasField("list_price")),
        )


def _parse_update(request: pb.UpdateProductRequest) -> UpdateProduct:
    with Fields() as fields:
        fields.request_id(request.request_id)
        return UpdateProduct(
            product_id=fields.uuid("product_id", request.product_id),
            etag=_etag(fields, request.etag),
            title=_title(fields, request.title) if request.HasField("title") else None,
            description=_description(fields, request.description) if request.HasField("description") else None,
            category=_category(fields, request.category) if request.HasField("category") else None,
            list_price=(
                fields.money("list_price", request.list_price, present=True) if request.HasField("list_price") else None
            ),
        )


def _parse_archival(request: pb.ArchiveProductRequest) -> ArchiveProduct:
    with Fields() as fields:
        fields.request_id(request.request_id)
        return ArchiveProduct(fields.uuid("product_id", request.product_id), _etag(fields, request.etag))


def _title(fields: Fields, text: str) -> str:
    return fields.text("title", text, at_most=_TITLE_LIMIT)


def _description(fields: Fields, text: str) -> str:
    return fields.text("description", text, at_most=_DESCRIPTION_LIMIT, required=False)


def _category(fields: Fields, text: str) -> str:
    return fields.text("category", text, at_most=_CATEGORY_LIMIT, required=False)


def _etag(fields: Fields, text: str) -> str:
    return fields.text("etag", text, at_most=_ETAG_LIMIT, required=False)
