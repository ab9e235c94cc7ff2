"""Holds what is to be deployed against the schemas of those who will read it; the first that does not fit ends it with 1.

    schemas.py kubernetes < rendered.yaml      Kubernetes' own schemas, and the models of the custom resources
    schemas.py compose < docker-compose.yml    the Compose specification
"""

import json
import sys

import yaml

# The oldest that Chart.yaml admits, and a new one.
VERSIONS = ["1.27.0", "1.35.0"]


def kubernetes(text):
    import kubernetes_validate
    from cloudcoil.models.keda import v1alpha1 as keda
    from cloudcoil.models.prometheus_operator import v1 as prometheus

    custom = {"keda.sh/v1alpha1": keda, "monitoring.coreos.com/v1": prometheus}
    for document in yaml.safe_load_all(text):
        if document is None:
            continue
        name = f"{document['kind']} {document['metadata']['name']}"
        if document["apiVersion"] in custom:
            model = getattr(custom[document["apiVersion"]], document["kind"])
            # The models overlook what they don't know, so that it is missing from what comes back.
            read = model.model_validate(document).model_dump(mode="json", by_alias=True, exclude_unset=True)
            assert read == document, f"{name}: unknown fields: {json.dumps(document)} is read as {json.dumps(read)}"
        else:
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(document, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    sys.exit(f"{name}: {'.'.join(map(str, error.path))}: {error.message}")
        print(name)


def compose(text):
    import compose_spec

    # Merge keys are YAML's matter, not Compose's.
    read = compose_spec.PyCompose.from_json(json.dumps(yaml.safe_load(text)))
    read.validate()
    print("\n".join(read.service_names()))


{"kubernetes": kubernetes, "compose": compose}[sys.argv[1]](sys.stdin.read())
