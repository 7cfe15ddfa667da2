"""Every flow that is served has a form that a person can fill in."""

from deployments.serve import FLOWS, deployments


def test_every_parameter_of_every_served_flow_is_described():
    served = deployments()
    assert {deployment.name for deployment in served} == {flow.name for flow in FLOWS}
    for deployment in served:
        schema = deployment._parameter_openapi_schema
        for name, field in schema.properties.items():
            assert field.get("description"), f"{deployment.name}: {name} has no description"
